"""The streaming forward on the host's own Wan network.

A MODEL that carries the graft is an ordinary MODEL: loaded, offloaded, quantised and LoRA-patched by the host.
Only its forward is replaced, by a DIFFUSION_MODEL wrapper that runs networks.wan_forward on the host's modules.
What one call needs (timestep, speech tokens, KV cache) comes in one opaque object among the
transformer options, because the host copies nested dicts there on every call but shares objects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from comfy.ldm.modules.attention import attention_pytorch, attention_sub_quad, optimized_attention
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...networks.cache_spec import CacheSpec
from ...networks.kv_cache import KVCache
from ...networks.profile import StudentProfile
from ...networks.wan_forward import TextContext, prepare_text, wan_forward
from .placement import placed_cache

KEY = "talkstream"
PROFILE_KEY = "talkstream_profile"
SENTENCE_KEY = "talkstream_sentence"
NOISE_CHANNELS = 16
TIMESTEP_SCALE = 1000.0
NO_CALL = "this MODEL streams: connect it to Stream Chunks or Chunk Sampler instead of an ordinary sampler"


@dataclasses.dataclass(eq=False)
class StreamCall:
    """One network call's private arguments and result; text is prepared on the first call and kept."""

    audio_projections: Sequence[nn.Module]
    text: TextContext | None = None
    timestep: float = 0.0
    audio_tokens_BTE: Tensor | None = None
    cache: KVCache | None = None
    velocity: Tensor | None = None


def attach(
    patcher: ModelPatcher,
    *,
    profile: StudentProfile,
    audio: ModelPatcher,
    sentence_BMD: Tensor | None = None,
) -> ModelPatcher:
    """A clone of the MODEL that streams. audio: patcher of the modules the host's loader leaves out.

    sentence_BMD: the text rows that the student's file brings with it.
    """
    grafted = patcher.clone()
    grafted.set_attachments(PROFILE_KEY, profile)
    if sentence_BMD is not None:
        grafted.set_attachments(SENTENCE_KEY, sentence_BMD)
    grafted.set_additional_models(KEY, [audio])
    wrapper_type = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    grafted.remove_wrappers_with_key(wrapper_type, KEY)
    grafted.add_wrapper_with_key(wrapper_type, KEY, streaming_forward)
    return grafted


def profile_of(patcher: ModelPatcher) -> StudentProfile:
    """The profile a MODEL carries; raises ValueError where there is none."""
    profile = patcher.get_attachment(PROFILE_KEY)
    if profile is None:
        raise ValueError(
            "got a MODEL without a student profile; insert Use Model as Student behind its loader, or load the file "
            "with Load Student"
        )
    return profile


def sentence_of(patcher: ModelPatcher) -> Tensor | None:
    """Text rows (1, M, width) that the student's file brought with it, or None."""
    return patcher.get_attachment(SENTENCE_KEY)


def audio_modules(patcher: ModelPatcher) -> nn.Module:
    """The audio part that rides along with a grafted MODEL."""
    return patcher.get_additional_models_with_key(KEY)[0].model


def text_width(patcher: ModelPatcher) -> int:
    """Width of the text rows that the network reads."""
    return patcher.model.diffusion_model.text_dim


def streaming_forward(
    executor: Callable[..., Tensor],
    x_BCTHW: Tensor,
    timestep_B: Tensor,
    context_BMD: Tensor,
    clip_fea: Tensor | None = None,
    time_dim_concat: Tensor | None = None,
    transformer_options: dict[str, Any] | None = None,
    **_: object,
) -> Tensor:
    """DIFFUSION_MODEL wrapper: velocity (B, 16, T, H, W) of one chunk, at the timestep of the StreamCall."""
    options = transformer_options or {}
    call = options.get(KEY)
    if not isinstance(call, StreamCall):
        raise RuntimeError(NO_CALL)
    network = executor.class_obj
    if call.text is None:
        call.text = prepare_text(network, context_BMD)

    host_attention = attention_for(x_BCTHW.device)

    def attention(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
        return host_attention(q_BLD, k_BLD, v_BLD, heads=heads, transformer_options=options)

    call.velocity = wan_forward(
        network,
        x_BCTHW,
        timestep_BT=x_BCTHW.new_full((x_BCTHW.shape[0], 1), call.timestep, dtype=torch.float64),
        text_BMD=call.text,
        audio_tokens_BTE=call.audio_tokens_BTE,
        audio_projections=call.audio_projections,
        cache=call.cache,
        attention=attention,
        cast=cast_parameter,
    )
    return call.velocity


def attention_for(device: torch.device) -> Callable[..., Tensor]:
    """The host's attention; on a CPU without the user's wish its slicing fallback gives way to PyTorch's own."""
    if device.type == "cpu" and optimized_attention is attention_sub_quad:
        return attention_pytorch
    return optimized_attention


def cast_parameter(parameter: Tensor, like: Tensor) -> Tensor:
    """A bare parameter on the device and in the format of an activation, as the host's own blocks do it."""
    return comfy.model_management.cast_to(parameter, dtype=like.dtype, device=like.device)


class HostNetwork:
    """A grafted MODEL as the engine's ChunkNetwork. Use as a context manager: the host sets up and cleans up."""

    def __init__(self, patcher: ModelPatcher, *, text_BMD: Tensor | None) -> None:
        """text_BMD: rows (1, M, text width); None for a student that reads none (one row of zeros)."""
        self.patcher = patcher
        self.text_BMD = torch.zeros(1, 1, text_width(patcher)) if text_BMD is None else text_BMD
        self.call = StreamCall(audio_projections=audio_modules(patcher).audio_cond_projs)
        self.options: dict[str, Any] = {}

    @property
    def in_dim(self) -> int:
        """Input channels of the network: noise, reference, mask."""
        return self.patcher.model.diffusion_model.in_dim

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.patcher.load_device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations, and of the KV cache unless the user chose another."""
        return self.patcher.model.get_dtype_inference()

    def __enter__(self) -> HostNetwork:
        self.options = comfy.model_patcher.create_model_options_clone(self.patcher.model_options)
        comfy.sampler_helpers.prepare_model_patcher(self.patcher, {}, self.options)
        self.patcher.pre_run()
        return self

    def __exit__(self, *_: object) -> None:
        self.patcher.cleanup()
        self.options = {}
        self.call = StreamCall(audio_projections=())

    def make_cache(
        self,
        spec: CacheSpec,
        grid: tuple[int, int],
        *,
        dtype: torch.dtype | None = None,
        in_main_memory: bool = False,
        eight_bit: bool = False,
    ) -> KVCache:
        """An empty cache for this network; grid: rows and columns of tokens; dtype: the network's unless given.

        in_main_memory, eight_bit: where and how its past is kept.
        """
        return placed_cache(
            self.patcher,
            spec,
            grid,
            dtype=dtype or self.dtype,
            in_main_memory=in_main_memory,
            eight_bit=eight_bit,
        )

    def velocity(
        self, x_BCTHW: Tensor, *, timestep: float, audio_tokens_BTE: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        """Velocity (B, 16, T, H, W) of a chunk; x holds all input channels."""
        call = self.call
        call.timestep, call.cache, call.velocity = timestep, cache, None
        call.audio_tokens_BTE = (
            None if audio_tokens_BTE is None else audio_tokens_BTE.to(x_BCTHW.device, self.dtype)
        )
        sigma = x_BCTHW.new_full((x_BCTHW.shape[0],), timestep / TIMESTEP_SCALE, dtype=torch.float32)
        self.run(x_BCTHW, sigma)
        if call.velocity is None:
            raise RuntimeError(
                "a patch on this MODEL skipped a network call, which a KV cache does not survive; "
                "remove EasyCache, TeaCache or the like"
            )
        return call.velocity.to(x_BCTHW.dtype)

    def run(self, x_BCTHW: Tensor, sigma_B: Tensor) -> None:
        """One call through the host, whose result is left in the StreamCall; x holds all input channels."""
        self.patcher.model.apply_model(
            x_BCTHW[:, :NOISE_CHANNELS],
            sigma_B,
            c_concat=x_BCTHW[:, NOISE_CHANNELS:],
            c_crossattn=self.text_BMD,
            transformer_options={
                **self.options["transformer_options"],
                "cond_or_uncond": [0],
                "sigmas": sigma_B,
                KEY: self.call,
            },
        )
