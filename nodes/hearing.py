"""The voice of a stream as speech tokens: which encoder, heard whole or in windows."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..audio.rates import frame_count, frames_in_latents, latents_for_frames
from ..audio.sources import ClipSource
from ..networks.profile import StudentProfile
from ..streaming.speech import MelSpeech, SpeechTokens
from ..streaming.speech_multitalk import MultiTalkSpeech, WholeVoice, WindowedVoice
from ..streaming.speech_wav2vec import SpeechEncoder, WholeClipSpeech, WindowedSpeech, encoder_from_modules
from .host import memory, progress
from .host.graft import audio_modules, cast_parameter
from .host.multitalk import audio_part
from .types import Speech, Stream
from .voice import motion_plan


def open_speech(stream: Stream) -> SpeechTokens | MultiTalkSpeech:
    """Tokens of the stream's voice, by the student's own encoder or through the host's AUDIO_ENCODER."""
    profile = stream.profile
    if profile.family == "multitalk":
        return open_voices(stream)
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


def open_voices(stream: Stream) -> MultiTalkSpeech:
    """Tokens of the MultiTalk family, of every speaker. All is heard even where only the beginning is shown."""
    speech, model = stream.speech, stream.model
    return MultiTalkSpeech(
        [open_voice(speech, samples_CS) for samples_CS in speech.voices or (speech.samples_CS,)],
        audio_part(model).audio_proj,
        device=model.load_device,
        dtype=model.model.get_dtype_inference(),
    )


def open_voice(speech: Speech, samples_CS: Tensor) -> WholeVoice | WindowedVoice:
    """One speaker's features through the host's AUDIO_ENCODER."""
    profile, source = speech.profile, ClipSource(samples_CS, speech.sample_rate)
    shared = {"profile": profile.speech, "fps_num": profile.fps_num, "fps_den": profile.fps_den}
    if speech.window == "windows":
        return WindowedVoice(source, host_encoder(speech), **shared)
    frames = heard_frames(profile, samples=samples_CS.shape[-1], sample_rate=speech.sample_rate)
    return WholeVoice(source, host_encoder(speech), frames=frames, check=progress.stop_if_asked, **shared)


def heard_frames(profile: StudentProfile, *, samples: int, sample_rate: int) -> int:
    """Frames of the whole voice, to the end of the last chunk."""
    if profile.motion_frames:
        return motion_plan(profile, samples=samples, sample_rate=sample_rate).heard_frames
    frames = frame_count(samples, sample_rate, fps_num=profile.fps_num, fps_den=profile.fps_den)
    latents = latents_for_frames(frames + profile.discarded_first_frames)
    return frames_in_latents(-(-latents // profile.chunk) * profile.chunk)


def host_encoder(speech: Speech) -> SpeechEncoder:
    """The host's wav2vec2, brought to its device before each use."""
    encoder = speech.encoder
    return encoder_from_modules(
        encoder.model,
        device=encoder.load_device,
        cast=cast_parameter,
        prepare=lambda: memory.load_together([encoder.patcher], extra_bytes=0),
    )
