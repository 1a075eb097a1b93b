"""Latents to frames while they arrive: the Wan 2.1 video decoder with its past carried along.

Every causal convolution keeps the last two frames of its input. Latents pass one at a time, always, so any
chunking of a stream gives the same bits; the first latent is one frame, every other one four. The walk
reads attribute names only, which are the names in a checkpoint, so it runs on networks.causal_vae, on its
folded form for CPUs and on a host's Wan VAE alike. After Wan 2.1's cached decode (Wan-Video, vae.py): beyond the
second temporal upsampling frames go on in pairs, as ComfyUI does it.

What holds against ComfyUI's whole decode of the same latents: within 1e-5 in float32 and within rounding in
bfloat16; on one thread of a CPU bit for bit with `exact`, which walks the VAE's own layers and is about four
times slower in float32. With more threads, or on a GPU, the convolution library sums in another order for
another number of frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.folded_decoder import FoldedConv3d, fold_decoder

KEPT_FRAMES = 2  # what a causal convolution of length three sees of the past
PAIR = 2  # frames that the high-resolution layers take at a time


class StreamingDecoder:
    """One stream's decoder: the VAE's weights, and what the stream remembers.

    decode() takes latents in the VAE's own units. Who turns normalised latents into those is the caller:
    networks.causal_vae.denormalise_latents here, the latent format's process_out in ComfyUI.
    """

    def __init__(
        self,
        vae: nn.Module,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        exact: bool = False,
    ) -> None:
        """vae: has conv2 and decoder, as CausalVAE and ComfyUI's WanVAE do. device: of the weights unless given.

        On a CPU a folded copy of the weights decodes, in `dtype` (the weights' own unless given); elsewhere, and
        with `exact`, the VAE itself in its own format. Raises ValueError for another module tree.
        """
        _check_tree(vae)
        weight = vae.conv2.weight
        self._device, self._dtype = torch.device(device or weight.device), weight.dtype
        self._layout = torch.contiguous_format
        if self._device.type == "cpu" and not exact:
            self._dtype, self._layout = dtype or weight.dtype, torch.channels_last_3d
            vae = fold_decoder(vae, self._dtype)
        self._vae = vae
        convolutions = [m for m in vae.decoder.modules() if _is_causal(m) and m.kernel_size[0] > 1]
        self._slots = {id(module): slot for slot, module in enumerate(convolutions)}
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next latent starts a stream."""
        self.latents = 0
        self._tails: list[Tensor | None] = [None] * len(self._slots)
        self._kept = [0] * len(self._slots)

    @property
    def size_bytes(self) -> int:
        """Bytes of the carried frames."""
        return sum(tail.nbytes for tail in self._tails if tail is not None)

    @torch.inference_mode()
    def decode(self, latents_BCTHW: Tensor) -> Tensor:
        """Next latents of the stream (1, 16, T, H, W), T >= 1 -> frames (1, 3, F, 8H, 8W), about [-1, 1].

        F = 4 T, and 3 fewer at the start of the stream.
        """
        if latents_BCTHW.ndim != 5 or latents_BCTHW.shape[2] < 1:
            raise ValueError(f"got latents of shape {tuple(latents_BCTHW.shape)}, expected (1, 16, T, H, W)")
        frames: list[Tensor] = []
        for latent in latents_BCTHW.to(self._device, self._dtype).split(1, dim=2):
            frames += self._decode_one(latent)
        return torch.cat(frames, dim=2)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the carried frames and the number of latents decoded."""
        tails = {f"tails.{i}": self._past(i).clone() for i, kept in enumerate(self._kept) if kept}
        return {"latents": self.latents, **tails}

    @torch.inference_mode()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, on the same VAE and size of picture."""
        names = [f"tails.{i}" for i in range(len(self._slots))]
        unknown = sorted(set(state) - {"latents", *names})
        if unknown:
            raise ValueError(
                f"the saved decoder state has {unknown[:3]}, which this VAE lacks: another VAE's"
            )
        self.reset()
        self.latents = int(state["latents"])
        for slot, name in enumerate(names):
            if name in state:
                self._keep(slot, state[name].to(self._device, self._dtype))

    def _decode_one(self, latent_BCTHW: Tensor) -> list[Tensor]:
        decoder = self._vae.decoder
        x = self._convolve(decoder.conv1, self._vae.conv2(latent_BCTHW))
        for layer in decoder.middle:
            x = self._block(layer, x)
        frames: list[Tensor] = []
        self._upsample(list(decoder.upsamples), x, frames)
        self.latents += 1
        return frames

    def _upsample(self, layers: list[nn.Module], x: Tensor, frames: list[Tensor]) -> None:
        """The rest of the decoder; splits into pairs after a temporal upsampling made more than two frames."""
        for index, layer in enumerate(layers):
            x = self._resample(layer, x) if hasattr(layer, "resample") else self._block(layer, x)
            if getattr(layer, "time_conv", None) is not None and x.shape[2] > PAIR:
                for pair in x.split(PAIR, dim=2):
                    self._upsample(layers[index + 1 :], pair, frames)
                return
        frames.append(self._sequence(self._vae.decoder.head, x))

    def _block(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A residual block or the attention within each frame: (1, C, T, H, W) -> (1, C', T, H, W)."""
        if not hasattr(layer, "residual"):
            return layer(x)
        return self._sequence(layer.residual, x).add_(layer.shortcut(x))

    def _sequence(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        for layer in layers:
            x = self._convolve(layer, x) if _is_causal(layer) else layer(x)
        return x

    def _resample(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Twice the height and width; twice the frames where it is temporal, but for the stream's first."""
        if getattr(layer, "time_conv", None) is not None and self.latents:
            c = x.shape[1]
            pairs = self._convolve(layer.time_conv, x).split(1, dim=2)
            x = torch.cat([frame for pair in pairs for frame in pair.split(c, dim=1)], dim=2)
        b, c, t, h, w = x.shape
        y = layer.resample(x.transpose(1, 2).reshape(b * t, c, h, w))
        return y.reshape(b, t, *y.shape[1:]).transpose(1, 2)

    def _convolve(self, convolution: nn.Module, x: Tensor) -> Tensor:
        """A causal convolution that continues from the frames kept of its input before."""
        slot = self._slots[id(convolution)]
        y = convolution(x, self._past(slot) if self._kept[slot] else None)
        self._keep(slot, x)
        return y

    def _past(self, slot: int) -> Tensor:
        """The frames kept so far, a view of the newest part of the buffer."""
        return self._tails[slot][:, :, KEPT_FRAMES - self._kept[slot] :]

    def _keep(self, slot: int, x: Tensor) -> None:
        """Write the last frames of x into the slot's buffer, behind what is left of the older ones.

        Buffers are made once: carried frames that were allocated anew among each call's temporaries would keep
        freed heap pages alive, and memory would waver by hundreds of megabytes.
        """
        if self._tails[slot] is None:
            b, c, _, h, w = x.shape
            zeros = x.new_zeros(b, c, KEPT_FRAMES, h, w)
            self._tails[slot] = zeros.contiguous(memory_format=self._layout)
        tail = self._tails[slot]
        fresh = min(x.shape[2], KEPT_FRAMES)
        if fresh < KEPT_FRAMES:
            tail[:, :, :-fresh] = tail[:, :, fresh:].clone()
        tail[:, :, -fresh:] = x[:, :, -fresh:]
        self._kept[slot] = min(KEPT_FRAMES, self._kept[slot] + fresh)


def _is_causal(module: nn.Module) -> bool:
    return isinstance(module, (nn.Conv3d, FoldedConv3d))


def _check_tree(vae: nn.Module) -> None:
    decoder = getattr(vae, "decoder", None)
    missing = [name for name in ("conv1", "middle", "upsamples", "head") if not hasattr(decoder, name)]
    if missing or not hasattr(vae, "conv2"):
        raise ValueError(
            f"got a VAE ({type(vae).__name__}) without {missing or ['conv2']}; expected a Wan 2.1 VAE, which a stream "
            "can be decoded with"
        )
