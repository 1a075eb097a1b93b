"""The host's VAE: is it the right one, a portrait to a latent, and its decoder for streaming."""

from __future__ import annotations

import torch
from comfy.latent_formats import Wan21
from comfy.ldm.wan.vae import WanVAE
from comfy.sd import VAE

from ...audio.rates import frames_in_latents
from ...streaming.decoder import StreamingDecoder
from ...streaming.encoder import StreamingEncoder
from .memory import cpu_has_fast_bf16

LATENT_CHANNELS = 16
MINI, MINI_WIDTH = "talkstream_mini", 16
"""The Mini speaks the latents of its own codec; its width tells that from Wan's and from narrowed copies of it."""

_EXPECTED = (
    "expected the VAE this student was trained with, of the Wan 2.1 kind (16 channels, 8x8 pixels and 4 frames per "
    "latent): load wan_2.1_vae, or talkstream_mini_vae for TalkStream Mini, with Load VAE"
)


def check_vae(vae: VAE, *, student: str) -> None:
    """Raises ValueError, in one sentence, for a VAE that the student was not trained with. student: its name."""
    network = getattr(vae, "first_stage_model", None)
    if network is None:
        raise ValueError(f"got an empty VAE; {_EXPECTED}")
    if not isinstance(network, WanVAE) or vae.latent_channels != LATENT_CHANNELS:
        space, time = vae.spacial_compression_decode(), vae.temporal_compression_decode() or 1
        raise ValueError(
            f"got another VAE ({type(network).__name__}, {vae.latent_channels} channels, {space}x{space} pixels and "
            f"{time} frames per latent); {_EXPECTED}"
        )
    width = int(network.decoder.head[0].gamma.shape[0])
    if student.startswith(MINI) != (width == MINI_WIDTH):
        found = "TalkStream Mini's VAE" if width == MINI_WIDTH else f"a VAE {width} channels wide"
        raise ValueError(
            f"got {found} for the student {student!r}, whose latents it cannot show; {_EXPECTED}"
        )


def encode_picture(vae: VAE, image_BHWC: torch.Tensor, *, latents: int = 1) -> torch.Tensor:
    """One picture in [0, 1], and mid-grey behind it where there are more latents, encoded in one go.

    Returns (1, 16, latents, H, W), normalised as the network sees it.
    """
    grey = image_BHWC.new_full((frames_in_latents(latents) - 1, *image_BHWC.shape[1:]), 0.5)
    return Wan21().process_in(vae.encode(torch.cat([image_BHWC, grey])).float())


def normalised(latent_BCTHW: torch.Tensor) -> torch.Tensor:
    """Latents of the VAE's own units as the network sees them."""
    return Wan21().process_in(latent_BCTHW)


def open_encoder(vae: VAE, *, dtype: torch.dtype) -> StreamingEncoder:
    """The VAE's encoder, one latent at a time with carried state; on a CPU it computes in this number format."""
    return StreamingEncoder(vae.first_stage_model, device=vae.device, dtype=dtype)


def encode_bytes(vae: VAE, *, side: int) -> int:
    """Memory the host sets aside to encode one latent's frames of a square picture."""
    return int(vae.memory_used_encode((1, 3, 4, side, side), vae.vae_dtype))


def to_vae_space(latent_BCTHW: torch.Tensor) -> torch.Tensor:
    """The network's normalised latents as the VAE's decoder, and core's LATENT wire, want them."""
    return Wan21().process_out(latent_BCTHW)


def decode_bytes(vae: VAE, *, latent_height: int, latent_width: int, latents: int) -> int:
    """Memory the host sets aside to decode this many latents at once."""
    return int(
        vae.memory_used_decode((1, LATENT_CHANNELS, latents, latent_height, latent_width), vae.vae_dtype)
    )


class HostDecoder:
    """The VAE's decoder, one latent at a time with carried state. A context manager: closing frees the state."""

    def __init__(self, vae: VAE, *, dtype: torch.dtype, exact: bool) -> None:
        """dtype: to decode in. exact: with the VAE's own layers, so in its own dtype; far slower on a CPU."""
        self.vae = vae
        self._dtype, self._exact = dtype, exact
        self._decoder: StreamingDecoder | None = None

    def __enter__(self) -> HostDecoder:
        network, device = self.vae.first_stage_model, self.vae.device
        self._decoder = StreamingDecoder(network, device=device, dtype=self._dtype, exact=self._exact)
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder = None

    def reset(self) -> None:
        """The next latent starts a clip of its own."""
        self._decoder.reset()

    def decode(self, latent_BCTHW: torch.Tensor) -> torch.Tensor:
        """The network's latents (1, 16, T, H, W) -> pictures (F, H, W, 3), float32 in [0, 1] on the CPU."""
        latents = to_vae_space(latent_BCTHW)
        video_BCFHW = self._decoder.decode(latents).float().cpu()
        return self.vae.process_output(video_BCFHW)[0].movedim(0, -1)


def decoding_dtype(vae: VAE, precision: str) -> torch.dtype:
    """ "auto": bf16 on a CPU that multiplies it in hardware, where it is the faster one; else the VAE's own."""
    on_cpu = torch.device(vae.device).type == "cpu"
    if precision == "auto" and on_cpu and vae.vae_dtype == torch.float32 and cpu_has_fast_bf16():
        return torch.bfloat16
    return vae.vae_dtype
