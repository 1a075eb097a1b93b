"""What the parts of a MultiTalk network put out, under the names that the goldens record them by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, close


@contextmanager
def tapped(network: nn.Module, audio: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Outputs by name, filled by the forward that runs inside. audio: holds audio_proj and the blocks' audio layers."""
    first, heard = network.blocks[0], audio.blocks[0]
    outputs = {
        "patch_embedding": network.patch_embedding,
        "time_embedding": network.time_embedding,
        "time_projection": network.time_projection,
        "text_embedding": network.text_embedding,
        "img_emb": network.img_emb,
        "audio_proj": audio.audio_proj.norm,
        "block0.self_attn": first.self_attn.o,
        "block0.cross_attn": first.cross_attn.o,
        "block0.norm_x": heard.norm_x,
        "block0.audio_cross_attn": heard.audio_cross_attn.proj,
        "block0.ffn": first.ffn,
        "head": network.head.head,
    }
    # A block has no module call of its own: what it puts out goes into the norm behind it.
    behind = [*(block.norm1 for block in network.blocks[1:]), network.head.norm]
    inputs = {f"block{number}": norm for number, norm in enumerate(behind)}
    seen: dict[str, Tensor] = {}

    def put_out(name: str):
        return lambda module, given, output: seen.__setitem__(name, output.detach().clone())

    def given(name: str):
        return lambda module, values: seen.__setitem__(name, values[0].detach().clone())

    hooks = [module.register_forward_hook(put_out(name)) for name, module in outputs.items()]
    hooks += [module.register_forward_pre_hook(given(name)) for name, module in inputs.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def check_taps(
    seen: dict[str, Tensor], golden: MultiTalkGolden, prefix: str, tolerance: float = 5e-5
) -> None:
    """Everything that the golden records of the modules of one call."""
    others = ("x_ref_attn_map", "rope1d_pos")
    names = {key.removeprefix(prefix) for key in golden.tensors if key.startswith(prefix)}
    names = {name for name in names if not name.startswith(others)}
    assert names == set(seen)
    for name in sorted(names):
        expected = golden[prefix + name]
        close(seen[name].cpu().reshape(expected.shape), expected, tolerance)
    assert bool(torch.isfinite(seen["head"]).all())
