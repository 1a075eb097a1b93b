"""Half of a Wan 2.1 VAE laid out for CPUs: the same module tree and weights, several times faster.

PyTorch computes short 3-D convolutions on a CPU up to ten times slower than 2-D ones of the same work, and is
slow to normalise over channels that are not innermost in memory. So here a causal convolution is one 2-D
convolution of all frames at once, with its taps in time side by side in the channels, and pictures are channels
last. The sums are the same in another order: float32 results differ by rounding.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from .causal_vae import join_past


class FoldedConv3d(nn.Module):
    """A causal 3-D convolution as a 2-D one over frames; for one clip at a time, with strides in time only.

    One with a stride sees the frames it is given and no zeros before them, as in Wan's temporal downsampling.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.kernel_size, self.padding = convolution.kernel_size, convolution.padding[1:]
        self.stride = convolution.stride[0]
        taps_OKCHW = convolution.weight.detach().transpose(1, 2)
        self.weight = nn.Parameter(taps_OKCHW.flatten(1, 2).contiguous(), requires_grad=False)
        self.bias = nn.Parameter(convolution.bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """x: (1, C, T, H, W), past: the frames before it, fewer at the start -> (1, out, T, H, W), channels last."""
        taps = self.kernel_size[0]
        joined = join_past(x, past, frames=taps - 1) if self.stride == 1 else x
        frames_TCHW = joined[0].transpose(0, 1)
        if taps > 1:
            last = len(frames_TCHW) - taps
            frames_TCHW = torch.cat(
                [frames_TCHW[tap : last + tap + 1 : self.stride] for tap in range(taps)], dim=1
            )
        frames_TCHW = frames_TCHW.contiguous(memory_format=torch.channels_last)
        y_TCHW = nn.functional.conv2d(frames_TCHW, self.weight, self.bias, padding=self.padding)
        return y_TCHW[None].transpose(
            1, 2
        )  # in this order the strides read as channels last to every later layer


def fold_half(vae: nn.Module, names: tuple[str, ...], dtype: torch.dtype) -> nn.Module:
    """The named parts of a Wan 2.1 VAE (conv2 and decoder, or encoder and conv1) in a number format.

    The VAE itself stays as it is.
    """
    half = nn.Module()
    # deepcopy takes what its memo holds for a module as that module's copy
    for name in names:
        part = getattr(vae, name)
        folded = {id(layer): FoldedConv3d(layer) for layer in part.modules() if isinstance(layer, nn.Conv3d)}
        setattr(half, name, copy.deepcopy(part, folded))
    return half.to(dtype=dtype, memory_format=torch.channels_last)
