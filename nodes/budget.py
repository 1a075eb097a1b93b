"""What a run needs of its device and of main memory, and whether they can give it; told before it starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..networks.memory_plan import GB, CacheBytes, MemoryPlan, placed_bytes
from .host import decoders, memory
from .host import vae as host_vae
from .host.picture_codec import encode_bytes
from .host.upscale import upscale_bytes
from .source_video import source_bytes, source_work_bytes
from .types import CacheChoice, Frames, Stream

SHARED = ("cpu", "mps")
"""Devices that compute in main memory."""
TELLING = 0.01
"""GB from which on other models are worth a word."""
SPARE_TEXT = "; Load Conditioning in place of a text encoder leaves more room"


PlanOf = Callable[[CacheChoice], MemoryPlan]
"""What the same run holds with another KV cache."""


@dataclass(frozen=True)
class Room:
    """Bytes that a run can have: on its device, and in main memory, which may be the same."""

    device: int
    main_memory: int
    same: bool

    def holds(self, plan: MemoryPlan) -> bool:
        """Whether the plan fits beside its weights, which may lie elsewhere and make it slower."""
        if self.same:
            return plan.beside + plan.away <= self.main_memory
        return plan.beside <= self.device and plan.away <= self.main_memory


def check_memory(stream: Stream, plan_of: PlanOf) -> None:
    """Raises ValueError, with the setting to change, for a run that its device or main memory cannot hold."""
    device = stream.model.load_device
    room = Room(memory.room(device), memory.room(torch.device("cpu")), same=device.type in SHARED)
    if not room.holds(plan_of(stream.cache)):
        raise ValueError(refusal(stream, plan_of, room))


def refusal(stream: Stream, plan_of: PlanOf, room: Room) -> str:
    """One sentence: what the run needs, what there is, which settings make it fit."""
    plan = plan_of(stream.cache)
    ways = [
        f"{words} ({changed.beside / GB:.1f} GB then)"
        for words, choice in smaller_choices(stream, away=not room.same)
        if room.holds(changed := plan_of(choice))
    ]
    place = "main memory" if room.same or plan.beside <= room.device else str(stream.model.load_device)
    needed, free = (
        (plan.beside, room.device)
        if place != "main memory"
        else (plan.away + (plan.beside if room.same else 0), room.main_memory)
    )
    remedy = (
        f"set KV Cache to {', or to '.join(ways)}" if ways else "choose a smaller size in Encode Reference"
    )
    return (
        f"this run needs {needed / GB:.1f} GB of {place} beside its weights (KV cache {plan.cache / GB:.1f}, its past "
        f"elsewhere {plan.away / GB:.1f}, VAE cache {plan.decoder / GB:.1f}, work {plan.work / GB:.1f}) and can have "
        f"{free / GB:.1f} GB; {remedy}{SPARE_TEXT if room.same else ''}"
    )


def smaller_choices(stream: Stream, *, away: bool) -> list[tuple[str, CacheChoice]]:
    """Settings of KV Cache that change numbers and memory least, in that order. away: main memory is another one."""
    choice = stream.cache
    if not keeps_a_cache(stream):
        return []
    placed = ("placement 'main memory'", dataclasses.replace(choice, in_main_memory=True))
    eight = ("dtype '8 bit'", dataclasses.replace(choice, eight_bit=True, dtype=None))
    both = (f"{eight[0]} and {placed[0]}", dataclasses.replace(eight[1], in_main_memory=True))
    listed = [placed, eight, both] if away else [eight]
    return [(words, changed) for words, changed in listed if changed != choice]


def plan_memory(frames: Frames, choice: CacheChoice | None = None) -> MemoryPlan:
    """What the run will hold: weights of all its models, KV cache, the VAE's frames. choice: of another cache."""
    stream = frames.stream
    latent = {"latent_height": stream.spec.latent_height, "latent_width": stream.spec.latent_width}
    cache, source = cache_bytes(stream, choice), stream.source
    return MemoryPlan(
        weights=sum(model.model_size() for model in frames.get_models()),
        cache=cache.device,
        decoder=decoders.kept_bytes(frames.vae, dtype=frames.decoding_dtype, **latent) + source_bytes(source),
        work=max(picture_bytes(frames), chunk_bytes(stream), source_work_bytes(source)),
        away=cache.main_memory,
    )


def plan_clip_memory(stream: Stream, choice: CacheChoice | None = None) -> MemoryPlan:
    """What a clip holds that is only sampled: neither decoded nor written."""
    cache = cache_bytes(stream, choice)
    return MemoryPlan(
        weights=sum(model.model_size() for model in stream.get_models()),
        cache=cache.device,
        decoder=0,
        work=chunk_bytes(stream),
        away=cache.main_memory,
    )


def describe_memory(frames: Frames) -> str:
    """One line: the plan, and what encoders hold that have done their work."""
    device = frames.stream.model.load_device
    others = memory.held_by_others(device, frames.get_models()) / GB
    left = (
        f"; other models, such as text and CLIP encoders, hold {others:.2f} GB" if others >= TELLING else ""
    )
    gone = "" if not left or device.type in SHARED else ", which go first when room is short"
    return f"{plan_memory(frames)}{left}{gone}"


def cache_bytes(stream: Stream, choice: CacheChoice | None = None) -> CacheBytes:
    """Of the KV cache; none for a student without one."""
    if not keeps_a_cache(stream):
        return CacheBytes(0)
    choice, spec, network = choice or stream.cache, stream.spec, stream.model.model.diffusion_model
    return placed_bytes(
        spec.cache_spec,
        layers=network.num_layers,
        dim=network.dim,
        heads=network.num_heads,
        tokens=spec.grid[0] * spec.grid[1],
        itemsize=cache_dtype(stream, choice).itemsize,
        eight_bit=choice.eight_bit,
        in_main_memory=choice.in_main_memory,
    )


def cache_dtype(stream: Stream, choice: CacheChoice | None = None) -> torch.dtype:
    """Number format of the KV cache: the network's unless the user chose another."""
    chosen = memory.PRECISIONS.get((choice or stream.cache).dtype)
    return chosen or stream.model.model.get_dtype_inference()


def keeps_a_cache(stream: Stream) -> bool:
    """Whether the student remembers by a KV cache; one with motion frames sees its last pictures instead."""
    return not stream.profile.motion_frames


def chunk_bytes(stream: Stream) -> int:
    """One chunk's activations, or the encoding of its motion frames."""
    spec, profile = stream.spec, stream.profile
    latent = {"latent_height": spec.latent_height, "latent_width": spec.latent_width}
    chunk = int(stream.model.model.memory_required([1, 16, profile.chunk, *latent.values()]))
    if keeps_a_cache(stream):
        return chunk
    return max(chunk, encode_bytes(stream.reference.vae, frames=profile.motion_frames, **latent))


def stream_bytes(stream: Stream) -> int:
    """Memory of the device beside the weights: KV cache and one chunk's activations."""
    return chunk_bytes(stream) + cache_bytes(stream).device


def picture_bytes(frames: Frames) -> int:
    """Memory to decode one latent and to enlarge its pictures."""
    spec = frames.stream.spec
    decoder = host_vae.decode_bytes(
        frames.vae, latents=1, latent_height=spec.latent_height, latent_width=spec.latent_width
    )
    return decoder + max((upscale_bytes(model) for model in frames.upscalers), default=0)


def run_bytes(frames: Frames) -> int:
    """Memory beside the weights: KV cache, one chunk's activations, what pictures need, and a source video."""
    source = frames.stream.source
    video = source_bytes(source) + source_work_bytes(source)
    return picture_bytes(frames) + stream_bytes(frames.stream) + video
