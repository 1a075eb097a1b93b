"""MultiTalk students in the host: its own Wan image-to-video network with our forward, the audio part beside it.

The audio part is either built from the student's own file (multitalk_student) or the module of a core MODEL_PATCH;
both have the same names. Core's own wrappers of such a patch are not used: they hear no background mask and guide
in another way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...networks.attention import TextContext, pad_text, prepare_text
from ...networks.cache_spec import CacheSpec
from ...networks.kv_cache import KVCache
from ...networks.profile import StudentProfile
from ...networks.speaker_attention import SpeakerAudio
from ...networks.wan_forward import wan_forward
from .graft import KEY, NO_CALL, NOISE_CHANNELS, PROFILE_KEY, TIMESTEP_SCALE, attention_for, cast_parameter
from .placement import placed_cache

SKIPPED = "a patch on this MODEL skipped a network call; remove EasyCache, TeaCache or the like"


@dataclasses.dataclass(eq=False)
class SpeakerCall:
    """One network call's private arguments and result; texts are prepared on their first use and kept."""

    speakers: SpeakerAudio | None = None
    timestep: float = 0.0
    negative: bool = False
    cache: KVCache | None = None
    velocity: Tensor | None = None
    texts: dict[bool, TextContext] = dataclasses.field(default_factory=dict)


def attach_audio(patcher: ModelPatcher, *, profile: StudentProfile, audio: ModelPatcher) -> ModelPatcher:
    """A clone of the MODEL that streams. audio: patcher of an audio part, ours or a core MODEL_PATCH."""
    grafted = patcher.clone()
    grafted.set_attachments(PROFILE_KEY, profile)
    grafted.set_additional_models(KEY, [audio])
    wrapper_type = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    grafted.remove_wrappers_with_key(wrapper_type, KEY)
    grafted.add_wrapper_with_key(wrapper_type, KEY, speaking_forward)
    return grafted


def audio_part(patcher: ModelPatcher) -> nn.Module:
    """The audio part that rides along with a grafted MODEL: ``audio_proj`` and ``blocks``."""
    return patcher.get_additional_models_with_key(KEY)[0].model


def image_width(patcher: ModelPatcher) -> int:
    """Width of the CLIP vision tokens that the network reads."""
    return patcher.model.diffusion_model.img_emb.proj[0].normalized_shape[0]


def speaking_forward(
    executor: Callable[..., Tensor],
    x_BCTHW: Tensor,
    timestep_B: Tensor,
    context_BMD: Tensor,
    clip_fea: Tensor | None = None,
    time_dim_concat: Tensor | None = None,
    transformer_options: dict[str, Any] | None = None,
    **_: object,
) -> Tensor:
    """DIFFUSION_MODEL wrapper: velocity (B, 16, T, H, W) of one chunk, at the timestep of the SpeakerCall."""
    options = transformer_options or {}
    call = options.get(KEY)
    if not isinstance(call, SpeakerCall):
        raise RuntimeError(NO_CALL)
    network = executor.class_obj
    if call.negative not in call.texts:
        call.texts[call.negative] = prepare_text(network, context_BMD, image_BMC=clip_fea)
    host_attention = attention_for(x_BCTHW.device)

    def attention(q_BLD: Tensor, k_BLD: Tensor, v_BLD: Tensor, heads: int) -> Tensor:
        return host_attention(q_BLD, k_BLD, v_BLD, heads=heads, transformer_options=options)

    call.velocity = wan_forward(
        network,
        x_BCTHW,
        timestep_BT=x_BCTHW.new_full((x_BCTHW.shape[0], 1), call.timestep, dtype=torch.float64),
        text_BMD=call.texts[call.negative],
        speakers=call.speakers,
        cache=call.cache,
        attention=attention,
        cast=cast_parameter,
    )
    return call.velocity


class HostSpeakerNetwork:
    """A grafted MODEL as the engine's network, with a KV cache or without. Use as a context manager."""

    def __init__(
        self,
        patcher: ModelPatcher,
        *,
        text_BMD: Tensor,
        image_BMC: Tensor,
        negative_BMD: Tensor | None = None,
    ) -> None:
        """text, negative: rows (1, M, text width), padded here to what the student takes; image: CLIP vision tokens."""
        rows = patcher.get_attachment(PROFILE_KEY).text_rows
        self.patcher, self.image_BMC = patcher, image_BMC
        texts = {False: text_BMD, True: negative_BMD}
        self.texts: Mapping[bool, Tensor] = {
            negative: pad_text(text, max(rows, text.shape[1]))
            for negative, text in texts.items()
            if text is not None
        }
        self.call = SpeakerCall()
        self.options: dict[str, Any] = {}

    @property
    def in_dim(self) -> int:
        """Input channels of the network: noise, mask, conditioning clip."""
        return self.patcher.model.diffusion_model.in_dim

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self.patcher.load_device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the activations."""
        return self.patcher.model.get_dtype_inference()

    def __enter__(self) -> HostSpeakerNetwork:
        self.options = comfy.model_patcher.create_model_options_clone(self.patcher.model_options)
        comfy.sampler_helpers.prepare_model_patcher(self.patcher, {}, self.options)
        self.patcher.pre_run()
        return self

    def __exit__(self, *_: object) -> None:
        self.patcher.cleanup()
        self.options = {}
        self.call = SpeakerCall()

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
        self,
        x_BCTHW: Tensor,
        *,
        timestep: float,
        audio_tokens_BTE: Tensor,
        cache: KVCache | None = None,
        masks_PL: Tensor | None = None,
        negative: bool = False,
    ) -> Tensor:
        """Velocity (B, 16, T, H, W) of a chunk; x holds all input channels, tokens are (B, T, M, E).

        masks: of several speakers, as in SpeakerAudio. negative: read the negative text. Raises ValueError where
        there is none.
        """
        if negative not in self.texts:
            raise ValueError(
                "guidance with text needs a negative text; connect one, or set text guidance to 1"
            )
        call, device = self.call, x_BCTHW.device
        masks = None if masks_PL is None else masks_PL.to(device)
        tokens = audio_tokens_BTE.to(device, self.dtype)
        call.speakers = SpeakerAudio(tokens, audio_part(self.patcher).blocks, masks)
        call.timestep, call.negative, call.cache, call.velocity = timestep, negative, cache, None
        sigma = x_BCTHW.new_full((x_BCTHW.shape[0],), timestep / TIMESTEP_SCALE, dtype=torch.float32)
        self.patcher.model.apply_model(
            x_BCTHW[:, :NOISE_CHANNELS],
            sigma,
            c_concat=x_BCTHW[:, NOISE_CHANNELS:],
            c_crossattn=self.texts[negative].to(device),
            clip_fea=self.image_BMC.to(device),
            transformer_options={
                **self.options["transformer_options"],
                "cond_or_uncond": [0],
                "sigmas": sigma,
                KEY: call,
            },
        )
        if call.velocity is None:
            raise RuntimeError(SKIPPED)
        return call.velocity.to(x_BCTHW.dtype)
