"""Audio tokens of the MultiTalk family: voices to features per video frame, windows of them to tokens.

After MultiTalk and InfiniteTalk (section 3): loudness to a fixed level, wav2vec2's convolution features brought to
the frame rate before its transformer, all hidden states but the first side by side. A voice is encoded as a whole,
as InfiniteTalk does, or in a window that ends with the chunk, as SoulX-FlashTalk streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from ..audio.loudness import gain_to, loudness_lufs
from ..audio.rates import frame_count, latent_frames, sample_at_frame
from ..audio.resample import ResampledReader
from ..audio.sources import SampleSource
from ..audio.windows import SPEECH_RATE, mirrored, places_around
from ..networks.multitalk import project_speech, side_by_side
from ..networks.profile import SpeechProfile
from ..networks.wav2vec2_stream import (
    ChannelNorm,
    clip_norm,
    conv_geometry,
    has_clip_norm,
    interpolate_vectors,
)
from .speech_wav2vec import SpeechEncoder

BLOCK_FEATURES = 256  # features per block of the convolutions, about five seconds
ENCODER = "chinese-wav2vec2-base (hidden size 768, 12 layers)"


class VoiceFeatures(Protocol):
    """One speaker's features, in windows around video frames."""

    def windows(self, first_frame: int, frames: int) -> Tensor:
        """Windows of these frames, which may begin before the clip: (frames, W, C) float32."""
        ...

    def needed_samples(self, first_frame: int, frames: int) -> tuple[int, int]:
        """Native samples [start, stop) to have before windows() of these frames."""
        ...


class WholeVoice:
    """Features of a finished clip from one pass over all of it; every frame depends on the whole clip."""

    def __init__(
        self,
        source: SampleSource,
        encoder: SpeechEncoder,
        *,
        profile: SpeechProfile,
        frames: int,
        fps_num: int,
        fps_den: int = 1,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """frames: of the whole stream, the last chunk's surplus included. check: called often; raise to stop."""
        self._reader = ResampledReader(source, rate=SPEECH_RATE)
        self._encoder, self._profile, self._check = encoder, profile, check
        if self._reader.length is None:
            raise ValueError("whole-clip speech needs the whole voice; close it first or use windowed speech")
        own = frame_count(self._reader.length, SPEECH_RATE, fps_num=fps_num, fps_den=fps_den)
        self._frames = own if profile.tail == "mirror" else max(own, frames)
        self._samples = sample_at_frame(self._frames, SPEECH_RATE, fps_num=fps_num, fps_den=fps_den)
        self._features: Tensor | None = None

    def needed_samples(self, first_frame: int, frames: int) -> tuple[int, int]:
        """All of the clip."""
        return 0, self._reader.native_range(0, self._samples)[1]

    @torch.no_grad()
    def windows(self, first_frame: int, frames: int) -> Tensor:
        """Windows of these frames: (frames, W, C) float32, the first feature before the clip."""
        if self._features is None:
            self._features = self._encode()
        places = places_around(first_frame, frames, window=self._profile.window_frames)
        if self._profile.tail == "mirror":
            places = mirrored(places, len(self._features))
        return self._features[places.clamp(0, len(self._features) - 1).to(self._features.device)]

    def _encode(self) -> Tensor:
        """(frames, C): convolutions block by block with the statistics of the clip, then the transformer."""
        self._encoder.prepare()
        gain = _gain(self._profile, (self._wave(*part) for part in self._ranges()))
        waves = (gain * self._wave(*part)[None] for part in self._ranges())
        norm = clip_norm(self._encoder.extractor, waves) if has_clip_norm(self._encoder.extractor) else None
        vectors = interpolate_vectors(self._convolved(gain, norm), self._frames)
        return states_side_by_side(self._encoder, vectors)

    def _convolved(self, gain: float, norm: ChannelNorm | None) -> Tensor:
        geometry = conv_geometry(self._encoder.extractor)
        total, parts = geometry.features(self._samples), []
        for first in range(0, total, BLOCK_FEATURES):
            start, stop = geometry.samples(first, min(first + BLOCK_FEATURES, total))
            parts.append(self._encoder.features(gain * self._wave(start, stop)[None], norm))
        return torch.cat(parts, dim=1)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        step = BLOCK_FEATURES * 320
        return ((a, min(a + step, self._samples)) for a in range(0, self._samples, step))

    def _wave(self, start: int, stop: int) -> Tensor:
        self._check()
        return torch.from_numpy(self._reader.read(start, stop)).to(self._encoder.device)


class WindowedVoice:
    """Features from a window that ends with the chunk, or a little after: constant memory, stable beginnings."""

    def __init__(
        self,
        source: SampleSource,
        encoder: SpeechEncoder,
        *,
        profile: SpeechProfile,
        fps_num: int,
        fps_den: int = 1,
    ) -> None:
        """profile: past_seconds and ahead_seconds are taken to the nearest frame. Before the clip is silence."""
        self._reader = ResampledReader(source, rate=SPEECH_RATE)
        self._encoder, self._profile = encoder, profile
        self._fps_num, self._fps_den = fps_num, fps_den
        self._past = round(profile.past_seconds * fps_num / fps_den)
        self._ahead = round(profile.ahead_seconds * fps_num / fps_den)

    def span(self, first_frame: int, frames: int) -> range:
        """Frames whose sound is encoded for these."""
        return range(first_frame - self._past, first_frame + frames + self._ahead)

    def needed_samples(self, first_frame: int, frames: int) -> tuple[int, int]:
        """Native samples [start, stop) to have before windows() of these frames."""
        start, stop = self._reader.native_range(*self._bounds(self.span(first_frame, frames)))
        return max(0, start), max(0, stop)

    @torch.no_grad()
    def windows(self, first_frame: int, frames: int) -> Tensor:
        """Windows of these frames: (frames, W, C) float32, cut at the ends of what is encoded."""
        self._encoder.prepare()
        span = self.span(first_frame, frames)
        wave = self._reader.read(*self._bounds(span))
        level = _gain(self._profile, iter([torch.from_numpy(wave)]))
        wave_1S = level * torch.from_numpy(wave)[None].to(self._encoder.device)
        vectors = interpolate_vectors(self._encoder.features(wave_1S, None), len(span))
        features = states_side_by_side(self._encoder, vectors)
        places = places_around(first_frame - span.start, frames, window=self._profile.window_frames)
        return features[places.clamp(0, len(span) - 1).to(features.device)]

    def _bounds(self, span: range) -> tuple[int, int]:
        """Samples at 16 kHz of these frames."""
        start, stop = (
            sample_at_frame(at, SPEECH_RATE, fps_num=self._fps_num, fps_den=self._fps_den)
            for at in (span.start, span.stop)
        )
        return start, stop


class MultiTalkSpeech:
    """Audio tokens of one speaker or several, for a stream with a KV cache or for chunks with motion frames."""

    def __init__(
        self,
        voices: Sequence[VoiceFeatures],
        audio_proj: nn.Module,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """device, dtype: where and in what format audio_proj works."""
        if not voices:
            raise ValueError("no voice: connect at least one AUDIO")
        self.voices, self._audio_proj = tuple(voices), audio_proj
        self._where = {"device": device, "dtype": dtype}

    @torch.no_grad()
    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """Tokens of latents of a stream whose latent 0 alone is one frame: (1, latents, P * M, E)."""
        heard = latent_frames(first_latent, latents)
        return self._project(heard.start, len(heard), first_alone=first_latent == 0)

    @torch.no_grad()
    def chunk_tokens(self, first_frame: int, frames: int) -> Tensor:
        """Tokens of a chunk that starts with a latent of one frame: (1, T, P * M, E)."""
        return self._project(first_frame, frames, first_alone=True)

    @torch.no_grad()
    def silent_tokens(self, frames: int) -> Tensor:
        """Tokens of a chunk without audio, which is one voice of zeros at the features: (1, T, M, E)."""
        width = self._audio_proj.proj1.weight.shape[1] // self._window
        zeros = torch.zeros(1, frames, self._window, width, **self._where)
        return side_by_side(project_speech(self._audio_proj, zeros, first_alone=True))

    @property
    def _window(self) -> int:
        """Feature frames of the first projection: the later one takes three more of the same width."""
        first, later = (getattr(self._audio_proj, name).weight.shape[1] for name in ("proj1", "proj1_vf"))
        return 3 * first // (later - first)

    def needed_samples(self, first_latent: int, latents: int) -> tuple[int, int]:
        """Native samples [start, stop) of the first voice to have before tokens() of these latents."""
        heard = latent_frames(first_latent, latents)
        return self.chunk_samples(heard.start, len(heard))

    def chunk_samples(self, first_frame: int, frames: int) -> tuple[int, int]:
        """Native samples [start, stop) of the first voice to have before chunk_tokens() of these frames."""
        return self.voices[0].needed_samples(first_frame, frames)

    def _project(self, first_frame: int, frames: int, *, first_alone: bool) -> Tensor:
        windows = torch.stack([voice.windows(first_frame, frames) for voice in self.voices])
        return side_by_side(
            project_speech(self._audio_proj, windows.to(**self._where), first_alone=first_alone)
        )


def check_encoder(encoder: SpeechEncoder, profile: SpeechProfile) -> None:
    """Does this encoder feed this student? Raises ValueError that names both and what to load."""
    got, wanted = (encoder.layers, encoder.width), (profile.feature_slots, profile.feature_width)
    if got != wanted:
        raise ValueError(
            f"the student hears {wanted[0]} hidden states of {wanted[1]} numbers, but the connected wav2vec2 has "
            f"{got[0]} layers of {got[1]}; load {ENCODER}"
        )


def states_side_by_side(encoder: SpeechEncoder, vectors_BAC: Tensor) -> Tensor:
    """Hidden states 1 .. layers of convolution features (1, A, C): (A, layers * D) float32, layer outermost."""
    states = iter(encoder.states(encoder.project(vectors_BAC)))
    next(states)
    return torch.cat([state[0].float() for state in states], dim=-1)


def _gain(profile: SpeechProfile, waves: Iterator[Tensor]) -> float:
    """Factor to the profile's loudness; 1 without one, for silence, and for less than 0.4 s."""
    if profile.loudness_lufs is None:
        return 1.0
    blocks = (wave.cpu().numpy() for wave in waves)
    return gain_to(profile.loudness_lufs, loudness_lufs(blocks, SPEECH_RATE))
