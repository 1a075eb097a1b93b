"""Load VAE Refiner: a new VAE of the host with another decoder in it."""

from __future__ import annotations

from pathlib import Path

from comfy.ldm.wan.vae import WanVAE
from comfy.sd import VAE

from ...model_loaders.refiner import read_refiner


def refine_vae(vae: VAE, path: Path) -> VAE:
    """The VAE's encoder with the file's decoder; the VAE itself stays as it is.

    Built anew from tensors, because patches do not reach the decoder's bare parameters under dynamic VRAM. Raises
    ValueError or FileNotFoundError, in one sentence, for a VAE or a file of another kind.
    """
    network = getattr(vae, "first_stage_model", None)
    if not isinstance(network, WanVAE):
        raise ValueError(
            f"got a VAE of another kind ({type(network).__name__}), expected one of the Wan 2.1 kind: load "
            "wan_2.1_vae, or talkstream_mini_vae for TalkStream Mini, with Load VAE"
        )
    tensors = vae.get_sd()
    refined = read_refiner(path, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    return VAE(sd={**tensors, **refined}, device=vae.device, dtype=vae.vae_dtype)
