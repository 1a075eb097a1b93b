"""Load Student: recognise a file by its header, load it with the host's own loader, graft our forward on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import comfy.ops
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...model_loaders.build import build_audio_modules, open_student
from ...model_loaders.contents import read_contents
from ...model_loaders.key_maps import split_audio
from ...model_loaders.multitalk import is_multitalk
from ...networks.profile import StudentProfile
from . import memory
from .graft import attach, profile_of
from .multitalk_student import load_multitalk
from .quantised import listed_layers, with_sizes

AUTO = "auto"


def load_student(
    path: Path, *, profile: str, precision: str, base: Path | None = None
) -> tuple[ModelPatcher, str]:
    """A MODEL that streams, and lines for the node: what the file is, its profile and why, size and format.

    base: the Wan network that an adapter is merged into, or that an InfiniteTalk file is the audio part of. Raises
    ValueError or FileNotFoundError in one sentence for a file that is no whole student.
    """
    choice = None if profile == AUTO else profile
    shapes = read_contents(path).shapes
    if is_multitalk(shapes):
        apart = base is not None and "patch_embedding.weight" not in shapes
        files = {"path": base, "audio": path} if apart else {"path": path}
        model, text = load_multitalk(**files, profile=choice, precision=precision)
        return model, describe(text, model)
    under = None if base is None else str(base)
    student = open_student(path, choice=choice, base=under)
    network = load_network(str(path), precision, choice, under)
    model = attach(
        network,
        profile=student.profile,
        audio=audio_patcher(student.audio_tensors(), student.profile),
        sentence_BMD=student.sentence(),
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
        metadata=with_sizes(listed_layers(student.tensors, split_audio(student.tensors)[0]), student.config),
        disable_dynamic=disable_dynamic,
    )
    if patcher is None:
        raise ValueError(
            f"{path}: this version of ComfyUI does not know the network; TalkStream needs 0.30 or newer"
        )
    memory.compute_in(patcher, dtype)
    patcher.cached_patcher_init = (load_network, (path, precision, profile, base))
    return patcher


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
