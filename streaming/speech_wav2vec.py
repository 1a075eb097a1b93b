"""Audio tokens of students that listen through wav2vec2: over the whole clip, or chunk by chunk in windows.

After LiveTalk (section 2) and Lip Forcing: convolution features are interpolated to one vector per video frame
*before* the transformer; the last hidden state and then all hidden states, side by side, four frames at a time,
go through one linear layer and a layer norm. Here each hidden state is multiplied into its slice of that layer
as soon as it exists, so nothing of size frames x 10752 is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio.rates import FRAMES_PER_LATENT, frames_in_latents, latent_frames
from ..audio.resample import ResampledReader
from ..audio.sources import SampleSource
from ..audio.windows import HOP_SAMPLES, SPEECH_RATE, SpeechWindow, clip_samples, plan_window
from ..networks.ops import Cast, default_cast
from ..networks.profile import SpeechProfile
from ..networks.wav2vec2_stream import (
    ChannelNorm,
    clip_norm,
    conv_features,
    conv_geometry,
    has_clip_norm,
    hidden_states,
    interpolate_vectors,
)

WHOLE_CLIP_SECONDS = 60  # up to here the whole clip is encoded at once by default
BLOCK_FEATURES = 256  # features per block of the convolutions, about five seconds
NORMALISE_EPS = 1e-7
BASE_MODEL = "wav2vec2-base-960h (hidden size 768, 12 layers)"
BASE_INPUT = FRAMES_PER_LATENT * 14 * 768


@dataclass(frozen=True)
class SpeechEncoder:
    """A wav2vec2 as three callables over its module tree, and where it runs.

    features: (1, S) normalised samples, statistics of the clip or None -> (1, A, C).
    project: (1, A, C) -> (1, A, D). states: (1, A, D) -> hidden states 0 .. layers, one at a time.
    prepare: run before each use (a host loads the model to its device here). width, layers: D and their number.
    """

    features: Callable[[Tensor, ChannelNorm | None], Tensor]
    project: Callable[[Tensor], Tensor]
    states: Callable[[Tensor], Iterator[Tensor]]
    extractor: nn.Module
    width: int
    layers: int
    device: torch.device
    prepare: Callable[[], None]


def encoder_from_modules(
    model: nn.Module,
    *,
    device: torch.device | str = "cpu",
    cast: Cast = default_cast,
    prepare: Callable[[], None] = lambda: None,
) -> SpeechEncoder:
    """Adapter over any module with wav2vec2's attribute names (ours, or the one inside an AUDIO_ENCODER)."""
    for name in ("feature_extractor", "feature_projection", "encoder"):
        if not hasattr(model, name):
            raise ValueError(f"the audio encoder has no '{name}': it is not a wav2vec2; load {BASE_MODEL}")
    return SpeechEncoder(
        features=lambda wave, norm: conv_features(model.feature_extractor, wave, norm=norm, cast=cast),
        project=model.feature_projection,
        states=lambda x: hidden_states(model.encoder, x),
        extractor=model.feature_extractor,
        width=int(model.encoder.layer_norm.weight.shape[0]),
        layers=len(model.encoder.layers),
        device=torch.device(device),
        prepare=prepare,
    )


def check_encoder(encoder: SpeechEncoder, audio_proj: nn.Module) -> None:
    """Does this encoder feed this student? Raises ValueError that names both and what to load."""
    takes = int(audio_proj.proj.weight.shape[1])
    gives = FRAMES_PER_LATENT * (encoder.layers + 2) * encoder.width
    if takes != gives:
        remedy = f"load {BASE_MODEL}" if takes == BASE_INPUT else "load the wav2vec2 it was trained with"
        raise ValueError(
            f"the student's audio_proj takes {takes} numbers per latent, but the connected wav2vec2 (hidden size "
            f"{encoder.width}, {encoder.layers} layers) gives {gives}; {remedy}"
        )


class SlotProjector:
    """audio_proj applied hidden state by hidden state: the same sum in another order.

    The linear layer reads [frame of the latent (4) | slot | channel]; slot 0 is the last hidden state, slots
    1 .. layers + 1 are hidden states 0 .. layers.
    """

    def __init__(self, audio_proj: nn.Module, *, slots: int, width: int, cast: Cast = default_cast) -> None:
        self._audio_proj, self._slots, self._width, self._cast = audio_proj, slots, width, cast

    def __call__(self, states: Iterator[Tensor], frames_TP: Tensor) -> Tensor:
        """Hidden states (1, A, D) in order, vector index of each frame (T, 4) -> tokens (1, T, E) float32.

        An index below 0 stands for a vector of zeros.
        """
        tokens = None
        state = torch.zeros(0)
        for slot, state in enumerate(states, start=1):
            part = self._slot(slot, state, frames_TP)
            tokens = part if tokens is None else tokens + part
        tokens = tokens + self._slot(0, state, frames_TP)
        norm, like = self._audio_proj.norm_out, tokens
        tokens = tokens + self._cast(self._audio_proj.proj.bias, like)
        weight, bias = self._cast(norm.weight, like), self._cast(norm.bias, like)
        return F.layer_norm(tokens, tokens.shape[-1:], weight, bias, norm.eps)[None]

    def _slot(self, slot: int, state_BAD: Tensor, frames_TP: Tensor) -> Tensor:
        there = (frames_TP >= 0)[..., None]
        rows = (state_BAD[0, frames_TP.clamp_min(0)].float() * there).flatten(1)  # (T, 4 * D)
        weight = self._cast(self._audio_proj.proj.weight, rows)
        weight = weight.unflatten(1, (FRAMES_PER_LATENT, self._slots, self._width))[:, :, slot]
        return rows @ weight.flatten(1).T


class WholeClipSpeech:
    """Tokens from one pass of wav2vec2 over the whole clip, as the published pipelines do it.

    The pass runs at the first call; only (1, latents, E) is kept. Every chunk depends on the whole clip.
    """

    def __init__(
        self,
        source: SampleSource,
        encoder: SpeechEncoder,
        audio_proj: nn.Module,
        *,
        profile: SpeechProfile,
        latents: int,
        fps_num: int,
        fps_den: int = 1,
        cast: Cast = default_cast,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """latents: of the whole clip, whatever part of it is asked for. check: called often; raise to stop."""
        check_encoder(encoder, audio_proj)
        self._reader = ResampledReader(source, rate=SPEECH_RATE)
        self._encoder, self._check, self.latents = encoder, check, latents
        self._copies, self._late = profile.prefix_copies, profile.late_frames
        self._project = SlotProjector(audio_proj, slots=encoder.layers + 2, width=encoder.width, cast=cast)
        self._vectors = frames_in_latents(latents)
        self._samples = clip_samples(
            self._vectors, uncovered_frames=profile.uncovered_frames, fps_num=fps_num, fps_den=fps_den
        )
        self._tokens: Tensor | None = None

    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """Tokens of latents [first_latent, first_latent + latents): (1, latents, E) float32."""
        if first_latent + latents > self.latents:
            raise ValueError(
                f"latents {first_latent} .. {first_latent + latents - 1} were asked for; the clip has {self.latents}"
            )
        if self._tokens is None:
            self._tokens = self._encode()
        return self._tokens[:, first_latent : first_latent + latents]

    @torch.no_grad()
    def _encode(self) -> Tensor:
        if self._reader.length is None:
            raise ValueError("whole-clip speech needs the whole voice; close it first or use windowed speech")
        self._encoder.prepare()
        vectors = interpolate_vectors(self._features(), self._vectors)
        states = self._checked(self._encoder.states(self._encoder.project(vectors)))
        frames = frame_indices(range(self.latents), copies=self._copies) - self._late
        return self._project(states, frames.to(vectors.device))

    def _features(self) -> Tensor:
        """(1, A, C): the convolutions, block by block with the statistics of the whole clip."""
        scale = wave_scale(self._blocks(), self._heard)
        norm = None
        if has_clip_norm(self._encoder.extractor):
            norm = clip_norm(self._encoder.extractor, (self._wave(a, b, scale) for a, b in self._ranges()))
        geometry = conv_geometry(self._encoder.extractor)
        parts = []
        total = geometry.features(self._samples)
        for first in range(0, total, BLOCK_FEATURES):
            start, stop = geometry.samples(first, min(first + BLOCK_FEATURES, total))
            parts.append(self._encoder.features(self._wave(start, stop, scale), norm))
            self._check()
        return torch.cat(parts, dim=1)

    @property
    def _heard(self) -> int:
        """Samples of the encoded stretch that are the user's; silence follows."""
        return min(self._samples, self._reader.length or 0)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        step = BLOCK_FEATURES * HOP_SAMPLES
        return ((a, min(a + step, self._samples)) for a in range(0, self._samples, step))

    def _blocks(self) -> Iterator[Tensor]:
        for start, stop in self._ranges():
            self._check()
            yield torch.from_numpy(self._reader.read(start, stop))

    def _wave(self, start: int, stop: int, scale: WaveScale) -> Tensor:
        wave = torch.from_numpy(self._reader.read(start, stop))
        return scale.apply(wave, self._heard - start)[None].to(self._encoder.device)

    def _checked(self, states: Iterator[Tensor]) -> Iterator[Tensor]:
        for state in states:
            self._check()
            yield state


class WindowedSpeech:
    """Tokens of one chunk from a window around it: some past, the chunk, some look-ahead, nothing else.

    Normalisation and loudness come from that window alone, so a chunk never changes because of what is said
    later, and memory does not grow with the clip.
    """

    def __init__(
        self,
        source: SampleSource,
        encoder: SpeechEncoder,
        audio_proj: nn.Module,
        *,
        profile: SpeechProfile,
        fps_num: int,
        fps_den: int = 1,
        cast: Cast = default_cast,
    ) -> None:
        """profile: past_seconds and ahead_seconds are taken to the nearest frame; look-ahead of at least one."""
        check_encoder(encoder, audio_proj)
        self._source = source
        self._reader = ResampledReader(source, rate=SPEECH_RATE)
        self._encoder, self._copies = encoder, profile.prefix_copies
        self._fps_num, self._fps_den = fps_num, fps_den
        self._past = round(profile.past_seconds * fps_num / fps_den)
        self._ahead = max(1, round(profile.ahead_seconds * fps_num / fps_den))
        self._project = SlotProjector(audio_proj, slots=encoder.layers + 2, width=encoder.width, cast=cast)

    def window(self, first_latent: int, latents: int) -> SpeechWindow:
        """Samples at 16 kHz that these latents hear."""
        return plan_window(
            latent_frames(first_latent, latents),
            past_frames=self._past,
            ahead_frames=self._ahead,
            fps_num=self._fps_num,
            fps_den=self._fps_den,
        )

    def needed_samples(self, first_latent: int, latents: int) -> tuple[int, int]:
        """Native samples [start, stop) to have before tokens() of these latents; earlier ones can be forgotten."""
        window = self.window(first_latent, latents)
        start, stop = self._reader.native_range(window.start, window.stop)
        return max(0, start), stop

    @torch.no_grad()
    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """Tokens of latents [first_latent, first_latent + latents): (1, latents, E) float32."""
        self._encoder.prepare()
        window = self.window(first_latent, latents)
        states = self._encoder.states(self._encoder.project(self._vectors(window)))
        frames = frame_indices(range(first_latent, first_latent + latents), copies=self._copies)
        return self._project(states, (frames - window.first_frame).to(self._encoder.device))

    def _vectors(self, window: SpeechWindow) -> Tensor:
        wave = torch.from_numpy(self._reader.read(window.start, window.stop))
        length = self._reader.length
        heard = len(wave) if length is None else min(len(wave), max(0, length - window.start))
        scale = wave_scale(iter([wave]), heard)
        features = self._encoder.features(scale.apply(wave, heard)[None].to(self._encoder.device), None)
        return interpolate_vectors(features, window.vectors)


@dataclass(frozen=True)
class WaveScale:
    """Zero mean and unit variance, by numbers measured beforehand."""

    mean: float
    deviation: float

    def apply(self, wave_S: Tensor, heard: int) -> Tensor:
        """Normalise the first `heard` samples; what follows is padding and becomes exact zeros."""
        out = (wave_S - self.mean) / self.deviation
        out[max(0, heard) :] = 0
        return out


def wave_scale(blocks: Iterator[Tensor], heard: int) -> WaveScale:
    """Mean and deviation over the first `heard` samples of consecutive blocks (S,); two sums, float64."""
    total, squares, left = 0.0, 0.0, heard
    for block in blocks:
        part = block[: max(0, left)].double()
        total += float(part.sum())
        squares += float(part.square().sum())
        left -= len(block)
    count = max(1, heard)
    mean = total / count
    variance = max(0.0, squares / count - mean * mean)
    return WaveScale(mean, (variance + NORMALISE_EPS) ** 0.5)


def frame_indices(latents: range, *, copies: int) -> Tensor:
    """Frame whose vector each of a latent's four places takes: (T, 4); before the start, frame 0.

    copies: of vector 0 in front of the clip; 3 gives latent 0 frame 0 four times and latent f frames 4f-3 .. 4f.
    """
    places = torch.arange(latents.start * FRAMES_PER_LATENT, latents.stop * FRAMES_PER_LATENT) - copies
    return places.clamp_min(0).unflatten(0, (-1, FRAMES_PER_LATENT))
