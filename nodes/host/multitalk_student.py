"""Load Student for the MultiTalk family: files to the host's own Wan network, the audio part beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import comfy.ops
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...model_loaders.multitalk import (
    MultiTalkStudent,
    describe_multitalk,
    open_multitalk,
    open_multitalk_audio,
)
from ...networks.multitalk import AudioPart
from ...networks.multitalk_profiles import MULTITALK_PROFILES
from ...networks.wan import WanConfig
from . import memory
from .multitalk import attach_audio
from .quantised import listed_layers, with_sizes

PAIRED = "infinitetalk"
"""The student that ComfyUI's split pair of files is, unless the user says otherwise."""


def load_multitalk(
    path: Path, *, audio: Path | None = None, profile: str | None = None, precision: str = "auto"
) -> tuple[ModelPatcher, str]:
    """A MODEL that streams, and lines for the node.

    audio: the audio part, where it is a file of its own beside the Wan network. profile: None leaves it to the files.
    Raises ValueError or FileNotFoundError in one sentence for files that are no whole student.
    """
    beside = None if audio is None else str(audio)
    student = open_multitalk(path, audio=beside, choice=profile, read=memory.read_tensors)
    network = load_network(str(path), beside, precision)
    part = audio_patcher(student.audio_tensors(), student.config)
    return attach_audio(network, profile=student.profile, audio=part), student.describe()


def load_network(
    path: str, audio: str | None, precision: str, *, disable_dynamic: bool = False
) -> ModelPatcher:
    """The Wan network of a student as the host's MODEL, without the graft.

    The host calls this again when it needs the same weights outside its dynamic VRAM.
    """
    student = open_multitalk(path, audio=audio, read=memory.read_tensors)
    wan = student.wan_tensors()
    stored = None if student.quantised else wan["blocks.0.self_attn.q.weight"].dtype
    dtype = memory.student_dtype(precision, stored=stored)
    patcher = comfy.sd.load_diffusion_model_state_dict(
        wan,
        model_options={} if dtype is None else {"dtype": dtype},
        metadata=with_sizes(wan_metadata(student), student.config),
        disable_dynamic=disable_dynamic,
    )
    if patcher is None:
        raise ValueError(
            f"{path}: this version of ComfyUI does not know the network; TalkStream needs 0.30 or newer"
        )
    memory.compute_in(patcher, dtype)
    patcher.cached_patcher_init = (load_network, (path, audio, precision))
    return patcher


def wan_metadata(student: MultiTalkStudent) -> dict[str, str]:
    """Of the file that the Wan network lies in, its list of quantised layers under the names of that network."""
    parts = student.tensors.files(student.wan_names)
    first = next(part for part in parts if "patch_embedding.weight" in part)
    return listed_layers(first, first)


def audio_patcher(tensors: Mapping[str, Tensor], config: WanConfig) -> ModelPatcher:
    """The audio part under the host's memory management, in its stored format."""
    with torch.device("meta"):
        part = AudioPart(
            config.multitalk, dim=config.dim, layers=config.num_layers, operations=comfy.ops.manual_cast
        )
    part.load_state_dict(dict(tensors), strict=True, assign=True)
    return memory.module_patcher(part.eval().requires_grad_(False))


def use_with_file(
    model: ModelPatcher, network: WanConfig, audio: Path, *, profile: str | None
) -> tuple[ModelPatcher, str]:
    """A clone of an image-to-video MODEL with the audio part of a file."""
    part = open_multitalk_audio(audio, network, choice=profile, read=memory.read_tensors)
    return attach_audio(
        model, profile=part.profile, audio=audio_patcher(part.read(), part.config)
    ), part.describe()


def use_with_patch(
    model: ModelPatcher, network: WanConfig, patch: ModelPatcher, *, profile: str | None
) -> tuple[ModelPatcher, str]:
    """A clone of an image-to-video MODEL with core's MODEL_PATCH of InfiniteTalk or MultiTalk as its audio part."""
    part = patch.model
    if not hasattr(part, "audio_proj") or not hasattr(part, "blocks"):
        raise ValueError(
            f"got a MODEL_PATCH of another kind ({type(part).__name__}); load an InfiniteTalk or MultiTalk patch with "
            "Load Model Patch"
        )
    layers = len(part.blocks)
    width = part.blocks[0].norm_x.normalized_shape[0]
    if (layers, width) != (network.num_layers, network.dim):
        raise ValueError(
            f"the MODEL_PATCH is for {layers} layers of width {width}, the MODEL has {network.num_layers} of "
            f"{network.dim}; load the patch and the network of the same student"
        )
    name = profile or PAIRED
    if name not in MULTITALK_PROFILES:
        raise ValueError(
            f"profile {name!r} is of another family; choose one of {', '.join(sorted(MULTITALK_PROFILES))} or auto"
        )
    why = (
        "chosen by you"
        if profile
        else "a network and a MODEL_PATCH, as InfiniteTalk is published for ComfyUI"
    )
    taken = replace(MULTITALK_PROFILES[name], source=why)
    text = f"{describe_multitalk(network)}, its audio part from the MODEL_PATCH\nprofile {name}: {why}"
    return attach_audio(model, profile=taken, audio=patch), text
