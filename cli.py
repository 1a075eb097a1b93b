"""The console command: a talking video without ComfyUI, and an answer about any model file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .model_loaders.build import Student
    from .networks.causal_vae import CausalVAE
    from .streaming.session import StreamSession

ASSETS = Path(__file__).resolve().parent / "assets"
MINI = ASSETS / "diffusion_models" / "talkstream_mini.safetensors"
MINI_VAE = ASSETS / "vae" / "talkstream_mini_vae.safetensors"
PIXELS_PER_LATENT = 8


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="talkstream", description="Talking video from a portrait and a voice.")
    commands = top.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write an MP4; needs torch, PyAV and Pillow, not ComfyUI")
    make.add_argument("--image", type=Path, required=True, help="portrait")
    make.add_argument("--audio", type=Path, required=True, help="voice: any file with sound")
    make.add_argument("--out", type=Path, default=Path("talkstream.mp4"), help="the MP4 to write")
    make.add_argument("--student", type=Path, default=MINI, help="a student with its own speech encoder")
    make.add_argument("--vae", type=Path, default=MINI_VAE, help="the VAE it was trained with")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--seconds", type=float, help="only the first seconds of the voice")
    doctor = commands.add_parser("doctor", help="say what a model file is, what it lacks and where it goes")
    doctor.add_argument("file", type=Path, help="a checkpoint, or the folder of a split one")
    doctor.add_argument(
        "--base", type=Path, help="for an adapter: the Wan network that it would be merged into"
    )
    sentence = commands.add_parser(
        "sentence", help="copy a student with its encoded sentence inside: it then needs no text encoder"
    )
    sentence.add_argument("--student", type=Path, required=True, help="a .safetensors file")
    sentence.add_argument(
        "--conditioning", type=Path, required=True, help="what the node Save Conditioning wrote"
    )
    sentence.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. What the user can mend is one sentence, without a traceback."""
    choice = parser().parse_args(arguments)
    if choice.command == "doctor":
        from .model_loaders.doctor import examine

        print(examine(choice.file, base=choice.base))
        return 0
    try:
        made = put_sentence(choice) if choice.command == "sentence" else make(choice, on_progress=show)
    except (ValueError, OSError) as error:
        print(f"talkstream: {error}", file=sys.stderr)
        return 1
    print(made)
    return 0


def put_sentence(choice: argparse.Namespace) -> Path:
    """A copy of a student that brings its sentence. Raises ValueError or OSError."""
    from .model_loaders.build import open_student
    from .model_loaders.sentence import add_sentence

    student = open_student(choice.student)
    if student.profile.text == "null":
        raise ValueError(f"{choice.student}: {student.profile.name} reads no text, so it needs no sentence")
    checkpoint = student.tensors.checkpoint
    if checkpoint.form:
        raise ValueError(
            f"{choice.student} is read from {checkpoint.form}; a sentence goes into a single .safetensors file only"
        )
    add_sentence(
        choice.student,
        choice.conditioning,
        choice.out,
        config=student.config,
        metadata=checkpoint.metadata,
    )
    return choice.out


def show(done_frames: int, frames: int, seconds: float) -> None:
    """One line, written over and over, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if done_frames == frames else ""
        rate = f"{done_frames / seconds:.1f} a second"
        print(f"\r{done_frames}/{frames} frames, {rate} ", end=end, file=sys.stderr, flush=True)


def make(choice: argparse.Namespace, *, on_progress: Callable[[int, int, float], None]) -> Path:
    """Stream, decode and write; on_progress(frames done, frames, seconds). Raises ValueError or OSError."""
    from .audio.levels import check_waveform
    from .media.frames import channels_last, to_bytes
    from .media.muxer import VideoWriter
    from .media.readers import read_picture, read_sound
    from .model_loaders.build import open_student
    from .model_loaders.vae import open_vae
    from .networks.causal_vae import denormalise_latents
    from .streaming.decoder import StreamingDecoder

    clip_CS, rate = read_sound(choice.audio)
    clip_CS = check_waveform(clip_CS, rate)
    student, vae = open_student(choice.student), open_vae(choice.vae)
    profile = student.profile
    reference = encode(vae, read_picture(choice.image), width=profile.width, height=profile.height)
    samples = (
        clip_CS.shape[1] if choice.seconds is None else min(clip_CS.shape[1], round(choice.seconds * rate))
    )
    session = open_session(student, reference, clip_CS, rate, samples=samples, seed=choice.seed)
    writer = VideoWriter(
        choice.out,
        width=profile.width,
        height=profile.height,
        fps=Fraction(profile.fps_num, profile.fps_den),
        audio=(clip_CS, rate),
    )
    decoder, started = StreamingDecoder(vae), time.monotonic()
    with session, writer:
        for part in session.chunks():
            pictures = channels_last(decoder.decode(denormalise_latents(part.latent_BCTHW)))
            writer.write(to_bytes(pictures[part.skip : part.skip + part.frames]))
            on_progress(writer.frames_written, session.spec.frames, time.monotonic() - started)
    return writer.path


def encode(vae: CausalVAE, image_BHWC: Tensor, *, width: int, height: int) -> Tensor:
    """A picture in [0, 1], cropped to the size -> its latent (1, 16, 1, H/8, W/8), normalised."""
    from .media.pictures import fit_picture
    from .networks.causal_vae import normalise_latents

    picture_BCHW = fit_picture(image_BHWC, width=width, height=height).movedim(-1, 1)
    return normalise_latents(vae.encode(2.0 * picture_BCHW[:, :, None] - 1.0))


def open_session(
    student: Student, reference_BCTHW: Tensor, clip_CS: Tensor, rate: int, *, samples: int, seed: int
) -> StreamSession:
    """A stream of a student that reads no text and hears by itself, over the first samples of a voice.

    Raises ValueError for any other student.
    """
    import torch

    from .audio.sources import ClipSource
    from .model_loaders.build import build_audio_modules, build_network
    from .samplers.noise import SeededNoise
    from .samplers.schedule import Schedule
    from .streaming.network import LocalNetwork
    from .streaming.reference import ReferenceLatents
    from .streaming.session import StreamSession
    from .streaming.spec import StreamSpec
    from .streaming.speech import MelSpeech

    profile = student.profile
    if profile.speech.encoder != "mel" or profile.text != "null":
        raise ValueError(
            f"{student.path}: {profile.name} needs a text encoder or wav2vec2, which only its ComfyUI workflow brings; "
            "here, use TalkStream Mini"
        )
    audio = build_audio_modules(student.audio_tensors(), profile, dtype=torch.float32)
    network = LocalNetwork(build_network(student.tensors, student.config, dtype=torch.float32))
    spec = StreamSpec(
        profile=profile,
        schedule=Schedule.from_sigmas(profile.sigmas, rounding=profile.timestep_rounding),
        cache_spec=profile.cache_spec,
        latent_height=profile.height // PIXELS_PER_LATENT,
        latent_width=profile.width // PIXELS_PER_LATENT,
        samples=samples,
        sample_rate=rate,
    )
    return StreamSession(
        spec,
        network,
        cache=network.make_cache(spec.cache_spec, spec.grid),
        speech=MelSpeech(
            ClipSource(clip_CS, rate), audio.speech_encoder, audio.audio_proj, profile=profile.speech
        ),
        reference=ReferenceLatents.for_profile(reference_BCTHW, profile),
        noise=SeededNoise(seed),
    )
