"""What a KV cache in eight bits changes: latents of recorded students, latents and pictures of TalkStream Mini.

Command: python -m talkstream.benchmarks.cache_error GOLDENS [--seconds 10]
GOLDENS: folder with livetalk_tiny.safetensors and echotorrent_tiny.safetensors. Every stream runs closed, on its own
output, once with the past in the network's format, once in eight bits and once in main memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..audio.sources import ClipSource
from ..cli import PIXELS_PER_LATENT
from ..networks.causal_vae import denormalise_latents
from ..samplers.noise import SeededNoise
from ..samplers.schedule import Schedule
from ..streaming.decoder import StreamingDecoder
from ..streaming.reference import ReferenceLatents
from ..streaming.session import StreamSession
from ..streaming.spec import StreamSpec
from ..streaming.speech import MelSpeech
from ..tests.golden import test_livetalk_streaming as livetalk
from ..tests.golden.test_echotorrent_stream import Rig
from ..tests.golden.wan_golden import Golden
from .mini_run import Loaded, load, machine, voice

WAYS = {"8 bit": {"eight_bit": True}, "main memory": {"home": "cpu"}}
ECHOTORRENT_VARIANTS = ("hybrid", "full_causal", "sink4")

Opener = Callable[..., StreamSession]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("goldens", type=Path)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the Mini's voice")
    choice = parser.parse_args()
    print(machine())
    print("\n| stream | past | largest error | rms error | PSNR of the pictures |\n|---|---|---|---|---|")
    for name, opener, loaded in streams(choice.goldens, choice.seconds):
        exact = latents(opener())
        for way, kept in WAYS.items():
            print(row(name, way, exact, latents(opener(**kept)), loaded), flush=True)


def streams(goldens: Path, seconds: float) -> Iterator[tuple[str, Opener, Loaded | None]]:
    """Every stream by name: what opens it, and the models of one that has pictures."""
    golden = Golden(goldens / "livetalk_tiny.safetensors")
    yield (
        "LiveTalk, recorded",
        lambda **kept: livetalk.open_session(golden, rounding="none", history=3, sink=9, **kept),
        None,
    )
    rig = Rig(goldens / "echotorrent_tiny.safetensors", torch.float32)
    for variant in ECHOTORRENT_VARIANTS:
        yield (
            f"EchoTorrent, recorded, {variant}",
            lambda variant=variant, **kept: rig.session(variant, **kept),
            None,
        )
    for dtype in (torch.float32, torch.bfloat16):
        loaded = load(dtype=dtype)
        yield (
            f"TalkStream Mini, {seconds:g} s, {str(dtype).removeprefix('torch.')}",
            lambda loaded=loaded, **kept: mini(loaded, seconds, **kept),
            loaded,
        )


def mini(loaded: Loaded, seconds: float, **kept: object) -> StreamSession:
    """A stream of the Mini as trained. kept: where or how the cache keeps its past."""
    profile, (clip_CS, rate) = loaded.profile, voice(seconds)
    spec = StreamSpec(
        profile=profile,
        schedule=Schedule.from_sigmas(profile.sigmas, rounding=profile.timestep_rounding),
        cache_spec=profile.cache_spec,
        latent_height=profile.height // PIXELS_PER_LATENT,
        latent_width=profile.width // PIXELS_PER_LATENT,
        samples=clip_CS.shape[1],
        sample_rate=rate,
    )
    audio = loaded.audio
    return StreamSession(
        spec,
        loaded.network,
        cache=loaded.network.make_cache(spec.cache_spec, spec.grid, **kept),
        speech=MelSpeech(
            ClipSource(clip_CS, rate), audio.speech_encoder, audio.audio_proj, profile=profile.speech
        ),
        reference=ReferenceLatents.for_profile(loaded.reference_BCTHW, profile),
        noise=SeededNoise(0),
    )


def latents(session: StreamSession) -> Tensor:
    """The whole stream: (1, 16, T, H, W)."""
    with session:
        return torch.cat([part.latent_BCTHW for part in session.chunks()], dim=2)


def row(name: str, way: str, exact: Tensor, made: Tensor, loaded: Loaded | None) -> str:
    """One line of the table; errors as shares of the latents' deviation."""
    error, deviation = (made - exact).abs(), exact.std()
    largest, rms = (float(x / deviation) for x in (error.max(), error.square().mean().sqrt()))
    shown = "" if loaded is None else psnr(pictures(loaded, exact), pictures(loaded, made))
    return f"| {name} | {way} | {largest:.1e} | {rms:.1e} | {shown} |"


@torch.no_grad()
def pictures(loaded: Loaded, latents_BCTHW: Tensor) -> Tensor:
    """Decoded: (1, 3, F, H, W) in [-1, 1]."""
    return StreamingDecoder(loaded.vae).decode(denormalise_latents(latents_BCTHW)).float().clamp(-1, 1)


def psnr(exact: Tensor, made: Tensor) -> str:
    """Between two videos in [-1, 1], of all frames together."""
    error = (made - exact).square().mean()
    return "the same" if not error else f"{float(10 * torch.log10(4 / error)):.1f} dB"


if __name__ == "__main__":
    main()
