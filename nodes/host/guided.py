"""Core's SAMPLER and GUIDER around a stream: SamplerCustomAdvanced calls us, and we call its guider."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from comfy.samplers import CFGGuider, Sampler
from torch import Tensor

from .graft import KEY, NOISE_CHANNELS, HostNetwork, StreamCall, text_width

Callback = Callable[[int, Tensor, Tensor, int], None]
ONE_PASS = (
    "students run without guidance and on one conditioning: use Basic Guider, or set cfg to 1, and connect a single "
    "text"
)


@dataclass(frozen=True, eq=False)
class SamplerCall:
    """What core hands to a SAMPLER: sigmas 1-D, noise (1, 16, T, H, W), callback(step, x0, x, steps) or None."""

    guider: CFGGuider
    model_options: Mapping[str, Any]
    seed: int
    sigmas: Tensor
    noise_BCTHW: Tensor
    callback: Callback | None


class ClipSampler(Sampler):
    """A SAMPLER that runs a function of ours on an empty LATENT of a known shape, and nothing else."""

    def __init__(
        self, run: Callable[[SamplerCall], Tensor], *, shape: tuple[int, ...], models: Callable[[], list[Any]]
    ) -> None:
        """run: makes the latents as the network sees them. shape: of the LATENT. models: patchers kept in use."""
        self._run, self._shape, self.get_models = run, shape, models

    def sample(
        self,
        model_wrap: CFGGuider,
        sigmas: Tensor,
        extra_args: Mapping[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Latents as the network sees them. Raises ValueError for a LATENT that is not the one made for this clip."""
        if tuple(noise.shape) != self._shape:
            raise ValueError(
                f"got a LATENT of shape {tuple(noise.shape)}, expected {self._shape}: connect the one that "
                "Chunk Sampler makes"
            )
        if denoise_mask is not None or (latent_image is not None and bool(latent_image.any())):
            raise ValueError(
                "got a LATENT with a picture or a mask in it; Chunk Sampler starts from an empty one"
            )
        call = SamplerCall(
            model_wrap, extra_args["model_options"], int(extra_args["seed"] or 0), sigmas, noise, callback
        )
        return self._run(call)


class GuidedNetwork(HostNetwork):
    """A grafted MODEL called through core's guider, which has loaded it and cleans up after it."""

    def __init__(self, call: SamplerCall, *, reads_text: bool) -> None:
        """reads_text: whether the guider's conditioning reaches the network, or one row of zeros in its place."""
        super().__init__(call.guider.model_patcher, text_BMD=None)
        self._guider, self._seed, self._reads_text = call.guider, call.seed, reads_text
        self._model_options = call.model_options
        self._known_BCTHW: Tensor | None = None

    def __enter__(self) -> GuidedNetwork:
        self.options = comfy.model_patcher.create_model_options_clone(self._model_options)
        self.options.setdefault("transformer_options", {})[KEY] = self.call
        add_wrapper_with_key(
            WrappersMP.APPLY_MODEL, KEY, self._apply_model, self.options, is_model_options=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.options = {}
        self.call = StreamCall(audio_projections=())

    def run(self, x_BCTHW: Tensor, sigma_B: Tensor) -> None:
        """One call through the guider. What guider and patches make of the network's word is taken over."""
        noisy, self._known_BCTHW = x_BCTHW[:, :NOISE_CHANNELS], x_BCTHW[:, NOISE_CHANNELS:]
        x0 = self._guider(noisy, sigma_B, model_options=self.options, seed=self._seed)
        velocity, level = self.call.velocity, float(sigma_B[0])
        if velocity is None or level == 0.0:
            return
        said = self.patcher.model.model_sampling.calculate_denoised(sigma_B, velocity.float(), noisy)
        if not torch.equal(x0, said):
            self.call.velocity = (noisy - x0) / level

    def _apply_model(
        self,
        executor: Callable[..., Tensor],
        x_BCTHW: Tensor,
        sigma_B: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        *rest: object,
        **options: object,
    ) -> Tensor:
        """APPLY_MODEL wrapper: the chunk's own reference channels in place of the clip's empty ones."""
        if x_BCTHW.shape[0] != 1 or self.call.velocity is not None:
            raise ValueError(ONE_PASS)
        return executor(x_BCTHW, sigma_B, self._known_BCTHW, self._text(c_crossattn), *rest, **options)

    def _text(self, c_crossattn: Tensor | None) -> Tensor:
        if not self._reads_text:
            return self.text_BMD
        width = text_width(self.patcher)
        if c_crossattn is None or c_crossattn.shape[-1] != width:
            found = "no text" if c_crossattn is None else f"a text encoding {c_crossattn.shape[-1]} wide"
            raise ValueError(
                f"got {found} from the guider, the student reads {width}; load umT5-XXL with Load CLIP, type wan"
            )
        return c_crossattn


def empty_latent(shape: tuple[int, ...]) -> dict[str, Tensor]:
    """A LATENT of zeros where the host keeps values between nodes."""
    return {"samples": torch.zeros(shape, device=comfy.model_management.intermediate_device())}
