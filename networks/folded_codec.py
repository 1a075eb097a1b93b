"""Half of a Wan 2.1 VAE laid out for CPUs: the same module tree and weights, several times faster.

PyTorch computes short 3-D convolutions of float32 on a CPU up to ten times slower than 2-D ones of the same work,
because it does not hand them to oneDNN, and is slow to normalise over channels that are not innermost in memory, or
few. So here oneDNN is asked for by name (where it cannot help, a convolution is a 2-D one of all frames at once),
pictures are channels last, and a norm's sum over the channels is a product of matrices, whose rows come out as wide
as the pictures' own. The sums are the same in another order: float32 results differ by rounding.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .causal_vae import join_past

TINY = 1e-24  # added to a norm's sum of squares: where all channels are zero, they stay zero


class FoldedConv3d(nn.Module):
    """A causal 3-D convolution laid out for a CPU; for one clip at a time, with strides in time only.

    One with a stride sees the frames it is given and no zeros before them, as in Wan's temporal downsampling.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.kernel_size, self.padding = convolution.kernel_size, convolution.padding[1:]
        self.stride = convolution.stride[0]
        weight = convolution.weight.detach().clone(memory_format=torch.channels_last_3d)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(convolution.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """x: (1, C, T, H, W), past: the frames before it, fewer at the start -> (1, out, T, H, W), channels last."""
        joined = join_past(x, past, frames=self.kernel_size[0] - 1) if self.stride == 1 else x
        joined = joined.contiguous(memory_format=torch.channels_last_3d)
        return self._by_onednn(joined) if onednn_computes(x.dtype) else self._by_frames(joined)

    def _by_onednn(self, x: Tensor) -> Tensor:
        padding, stride = (0, *self.padding), (self.stride, 1, 1)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, stride, (1, 1, 1), 1)

    def _by_frames(self, x: Tensor) -> Tensor:
        """One 2-D convolution of all frames at once, the taps in time side by side in the channels."""
        taps, frames_TCHW = self.kernel_size[0], x[0].transpose(0, 1)
        last = len(frames_TCHW) - taps
        joined = torch.cat([frames_TCHW[tap : last + tap + 1 : self.stride] for tap in range(taps)], dim=1)
        weight = self.weight.transpose(1, 2).flatten(1, 2)
        y_TCHW = nn.functional.conv2d(
            joined.contiguous(memory_format=torch.channels_last), weight, self.bias, padding=self.padding
        )
        return y_TCHW.transpose(0, 1)[None].contiguous(memory_format=torch.channels_last_3d)


def onednn_computes(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and convolves in this format on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class FoldedRMSNorm(nn.Module):
    """A norm over channels whose gains are all above zero; for channels last.

    gain_c x_c / rms(x) = x_c / sqrt(sum_k x_k^2 / (C gain_c^2)), the sums of all c from one product of matrices.
    """

    def __init__(self, gains_C: Tensor) -> None:
        super().__init__()
        count = gains_C.numel()
        share_C = 1 / (count * gains_C.detach().square())
        self.weight = nn.Parameter(share_C[:, None].repeat(1, count), requires_grad=False)
        self.bias = nn.Parameter(TINY * share_C, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, ...), channels last -> the same shape and layout."""
        rows = x.movedim(1, -1)
        sums = nn.functional.linear(rows.square(), self.weight, self.bias)
        return (rows * sums.rsqrt()).movedim(-1, 1)


def fold_half(vae: nn.Module, names: tuple[str, ...], dtype: torch.dtype) -> nn.Module:
    """The named parts of a Wan 2.1 VAE (conv2 and decoder, or encoder and conv1) in a number format.

    The VAE itself stays as it is.
    """
    half = nn.Module()
    # deepcopy takes what its memo holds for a module as that module's copy
    for name in names:
        part = getattr(vae, name)
        folded = {id(layer): _folded(layer) for layer in part.modules() if _folds(layer)}
        setattr(half, name, copy.deepcopy(part, folded))
    for layer in half.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)
    return half.to(dtype)


def _folds(layer: nn.Module) -> bool:
    """Convolutions over frames; norms as ours and ComfyUI's, without a bias and with gains above zero."""
    if isinstance(layer, nn.Conv3d):
        return True
    gains = getattr(layer, "gamma", None)
    return gains is not None and getattr(layer, "bias", None) is None and bool((gains > 0).all())


def _folded(layer: nn.Module) -> nn.Module:
    return FoldedConv3d(layer) if isinstance(layer, nn.Conv3d) else FoldedRMSNorm(layer.gamma.flatten())
