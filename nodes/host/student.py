"""Load Student: recognise a file by its header, load it with the host's own loader, graft our forward on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import comfy.ops
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...model_loaders.build import Student, build_audio_modules, open_student
from ...model_loaders.key_maps import split_audio
from ...networks.profile import StudentProfile
from ...networks.wan import WanConfig
from . import memory
from .graft import attach, profile_of

AUTO = "auto"
QUANTISED = "_quantization_metadata"
"""Where newer quantised files list their layers."""


def load_student(
    path: Path, *, profile: str, precision: str, base: Path | None = None
) -> tuple[ModelPatcher, str]:
    """A MODEL that streams, and lines for the node: what the file is, its profile and why, size and format.

    base: the Wan network that an adapter is merged into. Raises ValueError or FileNotFoundError in one sentence for
    a file that is no whole student.
    """
    choice = None if profile == AUTO else profile
    under = None if base is None else str(base)
    student = open_student(path, choice=choice, base=under)
    network = load_network(str(path), precision, choice, under)
    model = attach(
        network, profile=student.profile, audio=audio_patcher(student.audio_tensors(), student.profile)
    )
    return model, describe(student.describe(), model)


def audio_patcher(tensors: Mapping[str, Tensor], profile: StudentProfile) -> ModelPatcher:
    """The audio modules of a student, in the host's hands."""
    modules = build_audio_modules(tensors, profile, dtype=torch.float32, operations=comfy.ops.manual_cast)
    return memory.module_patcher(modules)


def load_network(
    path: str, precision: str, profile: str | None, base: str | None = None, *, disable_dynamic: bool = False
) -> ModelPatcher:
    """The Wan network of a student as the host's MODEL, without the graft.

    The host calls this again when it needs the same weights outside its dynamic VRAM.
    """
    student = open_student(path, choice=profile, base=base, read=memory.read_tensors)
    wan = student.wan_tensors()
    stored = None if student.signature.quantised else wan["blocks.0.self_attn.q.weight"].dtype
    dtype = memory.student_dtype(precision, stored=stored)
    patcher = comfy.sd.load_diffusion_model_state_dict(
        wan,
        model_options={} if dtype is None else {"dtype": dtype},
        metadata=with_sizes(own_layers(student), student.config),
        disable_dynamic=disable_dynamic,
    )
    if patcher is None:
        raise ValueError(
            f"{path}: this version of ComfyUI does not know the network; TalkStream needs 0.30 or newer"
        )
    memory.compute_in(patcher, dtype)
    patcher.cached_patcher_init = (load_network, (path, precision, profile, base))
    return patcher


def own_layers(student: Student) -> dict[str, str]:
    """The file's metadata, its list of quantised layers under the names of the Wan network and without the others."""
    metadata = dict(student.tensors.checkpoint.metadata)
    if QUANTISED not in metadata:
        return metadata
    listed = json.loads(metadata[QUANTISED])
    wan = split_audio(student.tensors)[0]
    ours = {
        student.tensors.recipes[name].parts[0].rpartition(".")[0]: name.rpartition(".")[0] for name in wan
    }
    layers = {ours[name]: layer for name, layer in listed["layers"].items() if name in ours}
    return {**metadata, QUANTISED: json.dumps({**listed, "layers": layers})}


def with_sizes(metadata: Mapping[str, str], config: WanConfig) -> dict[str, str]:
    """File metadata plus the sizes that the host would otherwise take for granted."""
    described = json.loads(metadata.get("config", "{}"))
    sizes = {"text_dim": config.text_dim, "freq_dim": config.freq_dim, "num_heads": config.num_heads}
    described["transformer"] = {**described.get("transformer", {}), **sizes}
    return {**metadata, "config": json.dumps(described)}


def describe(text: str, model: ModelPatcher) -> str:
    """Lines for the node: what was recognised, then size, rate, steps and number format, or why it does not stream."""
    profile = profile_of(model)
    number_format = str(model.model.get_dtype_inference()).removeprefix("torch.")
    fps = f"{profile.fps_num / profile.fps_den:g}"
    lines = [
        text,
        f"{profile.width}x{profile.height} at {fps} fps, {profile.steps} steps, {number_format} on "
        f"{model.load_device}",
    ]
    return "\n".join([*lines, f"does not stream: {profile.offline}"] if profile.offline else lines)
