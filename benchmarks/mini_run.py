"""A timed run of TalkStream Mini from voice to file, without ComfyUI; shared by the speed and memory benchmarks."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..audio.sources import ClipSource
from ..cli import MINI, MINI_VAE, PIXELS_PER_LATENT, encode
from ..media.frames import channels_last, to_bytes
from ..media.muxer import VideoWriter
from ..media.readers import read_picture, read_sound
from ..model_loaders.build import AudioModules, Student, build_audio_modules, build_network, open_student
from ..model_loaders.vae import open_vae
from ..networks.causal_vae import CausalVAE, denormalise_latents
from ..networks.kv_cache import KVCache, RingKVCache
from ..networks.profile import StudentProfile
from ..samplers.noise import SeededNoise
from ..samplers.schedule import Schedule
from ..streaming.decoder import StreamingDecoder
from ..streaming.network import LocalNetwork
from ..streaming.reference import ReferenceLatents
from ..streaming.session import StreamSession
from ..streaming.spec import StreamSpec
from ..streaming.speech import MelSpeech

ASSETS = Path(__file__).resolve().parents[1] / "assets"
STAGES = ("speech", "denoise", "clean pass", "decode", "write")


@dataclass
class Timing:
    """Seconds of one run. stages: total per stage; chunks: wall-clock per chunk; first_frame: since opening."""

    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    chunks: list[float] = field(default_factory=list)
    first_frame: float = 0.0
    total: float = 0.0
    frames: int = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of its body to a stage."""
        started = time.perf_counter()
        yield
        self.stages[name] += time.perf_counter() - started

    @property
    def fps(self) -> float:
        """Frames per second from opening the session to the finished file."""
        return self.frames / self.total


@dataclass(frozen=True)
class Loaded:
    """Models in memory, and the latent of a portrait."""

    student: Student
    network: LocalNetwork
    audio: AudioModules
    vae: CausalVAE
    reference_BCTHW: Tensor

    @property
    def profile(self) -> StudentProfile:
        """The student's profile."""
        return self.student.profile


class TimedNetwork:
    """A network whose passes are timed, the clean-context pass apart from the denoising steps."""

    def __init__(self, network: LocalNetwork, timing: Timing, *, context_timestep: float) -> None:
        self._network, self._timing, self._context_timestep = network, timing, context_timestep
        self.in_dim, self.device = network.in_dim, network.device

    def make_cache(self, *arguments: object, **options: object) -> RingKVCache:
        """The network's own cache."""
        return self._network.make_cache(*arguments, **options)

    def velocity(
        self, x_BCTHW: Tensor, *, timestep: float, audio_tokens_BTE: Tensor, cache: KVCache
    ) -> Tensor:
        """The network's velocity, timed."""
        with self._timing.stage("clean pass" if timestep == self._context_timestep else "denoise"):
            return self._network.velocity(
                x_BCTHW, timestep=timestep, audio_tokens_BTE=audio_tokens_BTE, cache=cache
            )


class TimedSpeech(MelSpeech):
    """Speech whose tokens are timed."""

    timing: Timing

    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """The tokens, timed."""
        with self.timing.stage("speech"):
            return super().tokens(first_latent, latents)


def load(
    *,
    dtype: torch.dtype,
    student_file: Path = MINI,
    vae_file: Path = MINI_VAE,
    portrait: Tensor | None = None,
) -> Loaded:
    """A student that hears by itself, its VAE and a portrait (1, H, W, 3) in [0, 1]; speech stays in float32.

    The shipped Mini and its first portrait where none are named.
    """
    student, vae = open_student(student_file), open_vae(vae_file)
    profile = student.profile
    if portrait is None:
        portrait = read_picture(sorted((ASSETS / "portraits").glob("*.png"))[0])
    reference = encode(vae, portrait, width=profile.width, height=profile.height)
    return Loaded(
        student=student,
        network=LocalNetwork(build_network(student.tensors, student.config, dtype=dtype)),
        audio=build_audio_modules(student.audio_tensors(), profile, dtype=torch.float32),
        vae=vae.to(dtype),
        reference_BCTHW=reference,
    )


def voice(seconds: float) -> tuple[Tensor, int]:
    """The shipped sentences, over and over: (C, S) float32 of that length, and its rate."""
    parts = [read_sound(path) for path in sorted((ASSETS / "sentences").glob("*.wav"))]
    rate = parts[0][1]
    sentence_CS = torch.cat([part for part, part_rate in parts if part_rate == rate], dim=1)
    clip_CS = torch.empty(sentence_CS.shape[0], round(seconds * rate))
    for start in range(0, clip_CS.shape[1], sentence_CS.shape[1]):
        stop = min(start + sentence_CS.shape[1], clip_CS.shape[1])
        clip_CS[:, start:stop] = sentence_CS[:, : stop - start]
    return clip_CS, rate


def open_session(
    loaded: Loaded, clip_CS: Tensor, rate: int, timing: Timing, *, samples: int | None = None
) -> StreamSession:
    """A stream of the Mini over a voice, as trained. samples: a limit on how much of the voice is shown."""
    profile = loaded.profile
    spec = StreamSpec(
        profile=profile,
        schedule=Schedule.from_sigmas(profile.sigmas, rounding=profile.timestep_rounding),
        cache_spec=profile.cache_spec,
        latent_height=profile.height // PIXELS_PER_LATENT,
        latent_width=profile.width // PIXELS_PER_LATENT,
        samples=samples or clip_CS.shape[1],
        sample_rate=rate,
    )
    speech = TimedSpeech(
        ClipSource(clip_CS, rate),
        loaded.audio.speech_encoder,
        loaded.audio.audio_proj,
        profile=profile.speech,
    )
    speech.timing = timing
    network = TimedNetwork(loaded.network, timing, context_timestep=profile.context_timestep)
    return StreamSession(
        spec,
        network,
        cache=network.make_cache(spec.cache_spec, spec.grid),
        speech=speech,
        reference=ReferenceLatents.for_profile(loaded.reference_BCTHW, profile),
        noise=SeededNoise(0),
    )


def stream(loaded: Loaded, clip_CS: Tensor, rate: int, path: Path) -> Iterator[Timing]:
    """Runs a stream into a file and yields the timing so far after every chunk, the last time when it is finished."""
    profile, timing = loaded.profile, Timing()
    opened = time.perf_counter()
    session, decoder = open_session(loaded, clip_CS, rate, timing), StreamingDecoder(loaded.vae)
    fps = Fraction(profile.fps_num, profile.fps_den)
    writer = VideoWriter(path, width=profile.width, height=profile.height, fps=fps, audio=(clip_CS, rate))
    with session, writer:
        before = time.perf_counter()
        for part in session.chunks():
            with timing.stage("decode"):
                pictures = channels_last(decoder.decode(denormalise_latents(part.latent_BCTHW)))
            timing.first_frame = timing.first_frame or time.perf_counter() - opened
            with timing.stage("write"):
                writer.write(to_bytes(pictures[part.skip : part.skip + part.frames]))
            now = time.perf_counter()
            timing.chunks.append(now - before)
            before, timing.frames = now, timing.frames + part.frames
            yield timing
        with timing.stage("write"):
            writer.finish()
    timing.total = time.perf_counter() - opened
    yield timing


def machine() -> str:
    """Processor, threads and torch, in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        name = models[0] if models else name
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"
