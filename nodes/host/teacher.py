"""A teacher on a whole clip: forwards and backwards in time, inside core's samplers, with guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.patcher_extension
import torch
from comfy.latent_formats import Wan21
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...networks.audio_pack import pack_vectors
from ...networks.wan_forward import prepare_text, wan_forward
from . import memory
from .graft import (
    KEY,
    NOISE_CHANNELS,
    TIMESTEP_SCALE,
    attention_for,
    audio_modules,
    cast_parameter,
    profile_of,
)

_POSITIVE = 0  # in the host's cond_or_uncond


class ClipForward:
    """DIFFUSION_MODEL wrapper: one clip's own channels and voice; the negative pass hears null audio."""

    def __init__(
        self,
        audio_projections: torch.nn.ModuleList,
        known_BCTHW: Tensor,
        tokens_2TE: Tensor,
        first_BCTHW: Tensor | None = None,
    ) -> None:
        """known_BCTHW: (1, in_dim - 16, T, H, W), normalised. tokens_2TE: of the voice, then of null audio.

        first_BCTHW: what the first latent is held to, (1, 16, 1, H, W), or None.
        """
        self._projections, self._known, self._tokens = audio_projections, known_BCTHW, tokens_2TE
        self._first = first_BCTHW

    def __call__(
        self,
        executor: Callable[..., Tensor],
        x_BCTHW: Tensor,
        timestep_B: Tensor,
        context_BMD: Tensor,
        clip_fea: Tensor | None = None,
        time_dim_concat: Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **_: object,
    ) -> Tensor:
        """Velocity (B, 16, T, H, W) of the whole clip. Raises ValueError for a LATENT of another size."""
        options = transformer_options or {}
        expected = (NOISE_CHANNELS, *self._known.shape[2:])
        if (NOISE_CHANNELS, *x_BCTHW.shape[2:]) != expected:
            raise ValueError(
                f"got a LATENT of {tuple(x_BCTHW.shape[2:])}, expected {expected[1:]}: connect the one that Teacher "
                "Clip makes"
            )
        batch, noisy = x_BCTHW.shape[0], x_BCTHW[:, :NOISE_CHANNELS]
        held = noisy if self._first is None else self._held(noisy)
        passes = options.get("cond_or_uncond") or [_POSITIVE]
        heard = torch.tensor([int(kind != _POSITIVE) for kind in passes]).repeat_interleave(
            batch // len(passes)
        )
        attention = attention_for(x_BCTHW.device)
        velocity = wan_forward(
            executor.class_obj,
            torch.cat([held, self._known.to(x_BCTHW).expand(batch, -1, -1, -1, -1)], dim=1),
            timestep_BT=timestep_B.reshape(batch, -1)[:, :1].double(),
            text_BMD=prepare_text(executor.class_obj, context_BMD),
            audio_tokens_BTE=self._tokens[heard].to(x_BCTHW),
            audio_projections=self._projections,
            attention=lambda q, k, v, heads: attention(q, k, v, heads=heads, transformer_options=options),
            cast=cast_parameter,
        )
        if self._first is not None:
            sigma_BCTHW = timestep_B.reshape(batch, 1, 1, 1, 1) / TIMESTEP_SCALE
            velocity[:, :, :1] = (noisy - held)[:, :, :1] / sigma_BCTHW
        return velocity

    def _held(self, noisy_BCTHW: Tensor) -> Tensor:
        """The same with its first latent clean."""
        held = noisy_BCTHW.clone()
        held[:, :, :1] = self._first.to(noisy_BCTHW)
        return held


def attach_clip(
    model: ModelPatcher, *, known_BCTHW: Tensor, tokens_BTE: Tensor, first_BCTHW: Tensor | None = None
) -> ModelPatcher:
    """A clone of a teacher's MODEL for one clip, which core's samplers run. tokens_BTE: of the voice.

    first_BCTHW: what the first latent is held to at every step, or None.
    """
    clip = model.clone()
    modules = audio_modules(clip)
    forward = ClipForward(
        modules.audio_cond_projs,
        known_BCTHW,
        torch.cat([tokens_BTE, null_tokens(clip, tokens_BTE.shape[1])]),
        first_BCTHW,
    )
    kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    clip.remove_wrappers_with_key(kind, KEY)
    clip.add_wrapper_with_key(kind, KEY, forward)
    return clip


@torch.inference_mode()
def null_tokens(model: ModelPatcher, latents: int) -> Tensor:
    """What guidance hears in its negative pass, (1, T, E): features of zeros; the biases still speak."""
    bring_audio(model)
    device = model.get_additional_models_with_key(KEY)[0].load_device
    zeros = torch.zeros(1, 4 * latents - 3, profile_of(model).speech.features, device=device)
    return audio_modules(model).audio_proj(pack_vectors(zeros)).float().cpu()


def bring_audio(model: ModelPatcher) -> None:
    """Load the audio modules that ride along with a MODEL."""
    memory.load_together(model.get_additional_models_with_key(KEY), extra_bytes=0)


def normalised(samples_BCTHW: Tensor) -> Tensor:
    """A core LATENT as the network sees it, float32."""
    return Wan21().process_in(samples_BCTHW.float())


def latent_mask(mask_BHW: Tensor, *, height: int, width: int) -> Tensor:
    """A MASK (1 where the mouth is) at the size of the latents, 0 or 1: (1, 1, 1, H, W)."""
    small = torch.nn.functional.interpolate(mask_BHW[:1, None].float(), (height, width), mode="bilinear")
    return (small > 0.5).float()[:, :, None]
