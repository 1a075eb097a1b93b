"""The voice of a stream as speech tokens: which encoder, heard whole or in windows."""

from __future__ import annotations

from comfy_api.latest import io

from ..audio.rates import frame_count, latents_for_frames
from ..audio.sources import ClipSource
from ..streaming.speech import MelSpeech, SpeechTokens
from ..streaming.speech_wav2vec import SpeechEncoder, WholeClipSpeech, WindowedSpeech, encoder_from_modules
from .host import memory, progress
from .host.graft import audio_modules, cast_parameter
from .types import Speech, Stream


def open_speech(stream: Stream) -> SpeechTokens:
    """Tokens of the stream's voice, by the student's own encoder or through the host's AUDIO_ENCODER."""
    profile = stream.profile
    if profile.speech.encoder != "mel":
        return open_wav2vec2(stream.model, stream.speech)
    modules = audio_modules(stream.model)
    return MelSpeech(
        ClipSource(stream.speech.samples_CS, stream.speech.sample_rate),
        modules.speech_encoder,
        modules.audio_proj,
        profile=profile.speech,
    )


def open_wav2vec2(model: io.Model.Type, speech: Speech) -> WholeClipSpeech | WindowedSpeech:
    """Tokens through the host's AUDIO_ENCODER. The whole voice is heard even where only its beginning is shown."""
    profile = speech.profile
    source = ClipSource(speech.samples_CS, speech.sample_rate)
    audio_proj = audio_modules(model).audio_proj
    rate = {"fps_num": profile.fps_num, "fps_den": profile.fps_den}
    if speech.window == "windows":
        return WindowedSpeech(
            source, host_encoder(speech), audio_proj, profile=profile.speech, cast=cast_parameter, **rate
        )
    frames = frame_count(speech.samples_CS.shape[-1], speech.sample_rate, **rate)
    latents = latents_for_frames(frames + profile.discarded_first_frames)
    return WholeClipSpeech(
        source,
        host_encoder(speech),
        audio_proj,
        profile=profile.speech,
        latents=-(-latents // profile.chunk) * profile.chunk,
        cast=cast_parameter,
        check=progress.stop_if_asked,
        **rate,
    )


def host_encoder(speech: Speech) -> SpeechEncoder:
    """The host's wav2vec2, brought to its device before each use."""
    encoder = speech.encoder
    return encoder_from_modules(
        encoder.model,
        device=encoder.load_device,
        cast=cast_parameter,
        prepare=lambda: memory.load_together([encoder.patcher], extra_bytes=0),
    )
