"""Use Model as Student: a MODEL that any loader made, the student's audio tensors, and our forward on both."""

from __future__ import annotations

from pathlib import Path

from comfy.ldm.wan.model import WanModel
from comfy.model_patcher import ModelPatcher

from ...model_loaders.audio_part import open_audio
from ...networks.wan import WanConfig
from . import memory
from .graft import attach
from .multitalk_student import use_with_file, use_with_patch
from .student import AUTO, audio_patcher, describe


def use_as_student(
    model: ModelPatcher, audio_path: Path, *, profile: str, patch: ModelPatcher | None = None
) -> tuple[ModelPatcher, str]:
    """A clone of the MODEL that streams, and lines for the node.

    audio_path: the student's whole file, or its audio tensors alone; only those are read. patch: core's MODEL_PATCH
    of a MultiTalk student, taken instead. LoRAs, quantised weights and everything else on the MODEL stay as they are.
    Raises ValueError or FileNotFoundError in one sentence.
    """
    choice = None if profile == AUTO else profile
    network = sizes_of(model)
    if network.image_in:
        if patch is None:
            grafted, text = use_with_file(model, network, audio_path, profile=choice)
        else:
            grafted, text = use_with_patch(model, network, patch, profile=choice)
        return grafted, describe(text, grafted)
    if patch is not None:
        raise ValueError(
            "got a MODEL_PATCH for a MODEL that reads no CLIP vision; a MultiTalk student's network is Wan 2.1 "
            "image-to-video: load that one, or disconnect model_patch"
        )
    part = open_audio(audio_path, network, choice=choice, read=memory.read_tensors)
    grafted = attach(
        model,
        profile=part.profile,
        audio=audio_patcher(part.read(), part.profile),
        sentence_BMD=part.sentence(),
    )
    return grafted, describe(part.describe(), grafted)


def sizes_of(model: ModelPatcher) -> WanConfig:
    """Sizes of the Wan network behind a MODEL. Raises ValueError for any other network."""
    network = getattr(model.model, "diffusion_model", None)
    if type(network) is not WanModel:
        raise ValueError(
            f"got a MODEL of another kind ({type(network).__name__}); expected the Wan network of a student such as "
            "LiveTalk, from Load Diffusion Model or a GGUF loader"
        )
    names = ("dim", "in_dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "out_dim", "freq_dim")
    image_in = None if network.img_emb is None else network.img_emb.proj[0].normalized_shape[0]
    return WanConfig(image_in=image_in, **{name: getattr(network, name) for name in names})
