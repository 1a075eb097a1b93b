"""Load Student: recognise a file by its header, load it with the host's own loader, graft our forward on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import comfy.ops
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher

from ...model_loaders.build import Student, build_audio_modules, open_student
from ...model_loaders.key_maps import split_audio, strip_wrappers
from ...networks.wan import WanConfig
from . import memory
from .graft import attach

AUTO = "auto"


def load_student(path: Path, *, profile: str, precision: str) -> tuple[ModelPatcher, str]:
    """A MODEL that streams, and lines for the node: what the file is, its profile and why, size and format.

    Raises ValueError or FileNotFoundError in one sentence for a file that is no whole student.
    """
    choice = None if profile == AUTO else profile
    student = open_student(path, choice=choice)
    network = load_network(str(path), precision, choice)
    audio = build_audio_modules(
        student.audio_tensors(), student.profile, dtype=torch.float32, operations=comfy.ops.manual_cast
    )
    model = attach(network, profile=student.profile, audio=memory.module_patcher(audio))
    return model, describe(student, model)


def load_network(
    path: str, precision: str, profile: str | None, *, disable_dynamic: bool = False
) -> ModelPatcher:
    """The Wan network of a student as the host's MODEL, without the graft.

    The host calls this again when it needs the same weights outside its dynamic VRAM.
    """
    student = open_student(path, choice=profile)
    tensors, metadata = memory.read_state_dict(path)
    wan = split_audio(strip_wrappers(tensors))[0]
    stored = None if student.signature.quantised else wan["blocks.0.self_attn.q.weight"].dtype
    dtype = memory.student_dtype(precision, stored=stored)
    patcher = comfy.sd.load_diffusion_model_state_dict(
        dict(wan),
        model_options={} if dtype is None else {"dtype": dtype},
        metadata=with_sizes(metadata, student.config),
        disable_dynamic=disable_dynamic,
    )
    if patcher is None:
        raise ValueError(
            f"{path}: this version of ComfyUI does not know the network; TalkStream needs 0.30 or newer"
        )
    memory.compute_in(patcher, dtype)
    patcher.cached_patcher_init = (load_network, (path, precision, profile))
    return patcher


def with_sizes(metadata: Mapping[str, str], config: WanConfig) -> dict[str, str]:
    """File metadata plus the sizes that the host would otherwise take for granted."""
    described = json.loads(metadata.get("config", "{}"))
    sizes = {"text_dim": config.text_dim, "freq_dim": config.freq_dim, "num_heads": config.num_heads}
    described["transformer"] = {**described.get("transformer", {}), **sizes}
    return {**metadata, "config": json.dumps(described)}


def describe(student: Student, model: ModelPatcher) -> str:
    """Lines for the node."""
    profile = student.profile
    number_format = str(model.model.get_dtype_inference()).removeprefix("torch.")
    fps = f"{profile.fps_num / profile.fps_den:g}"
    return (
        f"{student.describe()}\n{profile.width}x{profile.height} at {fps} fps, {profile.steps} steps, "
        f"{number_format} on {model.load_device}"
    )
