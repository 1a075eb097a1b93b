"""Use Model as Student: a MODEL that any loader made, the student's audio tensors, and our forward on both."""

from __future__ import annotations

from pathlib import Path

from comfy.ldm.wan.model import WanModel
from comfy.model_patcher import ModelPatcher

from ...model_loaders.audio_part import open_audio
from ...networks.wan import WanConfig
from . import memory
from .graft import attach
from .student import AUTO, audio_patcher, describe


def use_as_student(model: ModelPatcher, audio_path: Path, *, profile: str) -> tuple[ModelPatcher, str]:
    """A clone of the MODEL that streams, and lines for the node.

    audio_path: the student's whole file, or its audio tensors alone; only those are read. LoRAs, quantised weights
    and everything else on the MODEL stay as they are. Raises ValueError or FileNotFoundError in one sentence.
    """
    choice = None if profile == AUTO else profile
    part = open_audio(audio_path, sizes_of(model), choice=choice, read=memory.read_tensors)
    grafted = attach(model, profile=part.profile, audio=audio_patcher(part.read(), part.profile))
    return grafted, describe(part.describe(), grafted)


def sizes_of(model: ModelPatcher) -> WanConfig:
    """Sizes of the Wan network behind a MODEL. Raises ValueError for any other network."""
    network = getattr(model.model, "diffusion_model", None)
    if type(network) is not WanModel:
        raise ValueError(
            f"got a MODEL of another kind ({type(network).__name__}); expected the Wan network of a student such as "
            "LiveTalk, from Load Diffusion Model or a GGUF loader"
        )
    if network.img_emb is not None:
        raise ValueError(
            "got a Wan image-to-video MODEL; expected the network of an AudioPack student such as LiveTalk, which has "
            "no image branch"
        )
    names = ("dim", "in_dim", "ffn_dim", "num_heads", "num_layers", "text_dim", "out_dim", "freq_dim")
    return WanConfig(**{name: getattr(network, name) for name in names})
