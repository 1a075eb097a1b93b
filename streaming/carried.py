"""Causal convolutions that go on where the last call ended: the memory of a streaming codec, encoder or decoder."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.folded_codec import FoldedConv3d, fold_half

KEPT_FRAMES = 2  # what a causal convolution of length three sees of the past


class CausalWalk:
    """One half of a Wan 2.1 VAE with the last frames of every convolution's input carried along.

    A half is walked by the names in a checkpoint, so it runs on networks.causal_vae, on its folded form for CPUs and
    on a host's Wan VAE alike. `position` counts what has gone through since the stream's start.
    """

    def __init__(
        self,
        vae: nn.Module,
        names: tuple[str, str],
        *,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        exact: bool,
    ) -> None:
        """names: of the half's tree and of the convolution between it and the latents. The rest as the halves say."""
        weight = getattr(vae, names[1]).weight
        self.device, self.dtype = torch.device(device or weight.device), weight.dtype
        self.layout = torch.contiguous_format
        if self.device.type == "cpu" and not exact:
            self.dtype, self.layout = dtype or weight.dtype, torch.channels_last_3d
            vae = fold_half(vae, names, self.dtype)
        self.vae = vae
        convolutions = [m for m in getattr(vae, names[0]).modules() if is_causal(m) and m.kernel_size[0] > 1]
        self._slots = {id(module): slot for slot, module in enumerate(convolutions)}
        self.reset()

    def reset(self) -> None:
        """Forget the past: what comes next starts a stream."""
        self.position = 0
        self._tails: list[Tensor | None] = [None] * len(self._slots)
        self._kept = [0] * len(self._slots)

    def sibling(self) -> CausalWalk:
        """Another stream, at its start, through the same weights."""
        other = copy.copy(self)
        other.reset()
        return other

    @property
    def size_bytes(self) -> int:
        """Bytes of the carried frames."""
        return sum(tail.nbytes for tail in self._tails if tail is not None)

    def state_dict(self) -> dict[str, Any]:
        """Copies of the carried frames and the position."""
        tails = {f"tails.{i}": self._past(i).clone() for i, kept in enumerate(self._kept) if kept}
        return {"latents": self.position, **tails}

    @torch.inference_mode()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, on the same VAE and size of picture."""
        names = [f"tails.{i}" for i in range(len(self._slots))]
        unknown = sorted(set(state) - {"latents", *names})
        if unknown:
            raise ValueError(f"the saved codec state has {unknown[:3]}, which this VAE lacks: another VAE's")
        self.reset()
        self.position = int(state["latents"])
        for slot, name in enumerate(names):
            if name in state:
                self._keep(slot, state[name].to(self.device, self.dtype))

    def block(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A residual block or the attention within each frame: (1, C, T, H, W) -> (1, C', T, H, W)."""
        if not hasattr(layer, "residual"):
            return layer(x)
        return self.sequence(layer.residual, x).add_(layer.shortcut(x))

    def sequence(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        """Layers one after another, causal convolutions with their past."""
        for layer in layers:
            x = self.convolve(layer, x) if is_causal(layer) else layer(x)
        return x

    def convolve(self, convolution: nn.Module, x: Tensor) -> Tensor:
        """A causal convolution that continues from the frames kept of its input before."""
        y = convolution(x, self.past(convolution))
        self.keep(convolution, x)
        return y

    def past(self, convolution: nn.Module) -> Tensor | None:
        """The frames kept of a convolution's input, a view; None at the stream's start."""
        slot = self._slots[id(convolution)]
        return self._past(slot) if self._kept[slot] else None

    def keep(self, convolution: nn.Module, x: Tensor) -> None:
        """Carry the last frames of a convolution's input."""
        self._keep(self._slots[id(convolution)], x)

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
            self._tails[slot] = zeros.contiguous(memory_format=self.layout)
        tail = self._tails[slot]
        fresh = min(x.shape[2], KEPT_FRAMES)
        if fresh < KEPT_FRAMES:
            tail[:, :, :-fresh] = tail[:, :, fresh:].clone()
        tail[:, :, -fresh:] = x[:, :, -fresh:]
        self._kept[slot] = min(KEPT_FRAMES, self._kept[slot] + fresh)


def per_frame(layers: nn.Module, x: Tensor) -> Tensor:
    """Run 2-D layers on every frame of (B, C, T, H, W)."""
    b, c, t, h, w = x.shape
    y = layers(x.transpose(1, 2).reshape(b * t, c, h, w))
    return y.reshape(b, t, *y.shape[1:]).transpose(1, 2)


def is_causal(module: nn.Module) -> bool:
    """Whether a layer sees several frames."""
    return isinstance(module, (nn.Conv3d, FoldedConv3d))


def check_tree(vae: nn.Module, half: str, inner: str, layers: str) -> None:
    """Raises ValueError for a VAE without the half's layers. inner: the convolution beside it."""
    tree = getattr(vae, half, None)
    missing = [name for name in ("conv1", "middle", layers, "head") if not hasattr(tree, name)]
    if missing or not hasattr(vae, inner):
        raise ValueError(
            f"got a VAE ({type(vae).__name__}) without {missing or [inner]}; expected a Wan 2.1 VAE, which a stream "
            f"can be {half.removesuffix('r')}d with"
        )
