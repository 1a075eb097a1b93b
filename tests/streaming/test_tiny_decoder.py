"""The tiny decoder: any chunking equals the whole, a saved state continues, sessions do not meet."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talkstream.streaming.tiny_decoder import TinyDecoder, carried_bytes


class Memory(nn.Module):
    """A memory block as TAEHV names it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * width, width, 3, padding=1)
        self.skip = nn.Identity()

    def forward(self, x, past):
        return torch.relu(self.conv(torch.cat([x, past], 1)) + self.skip(x))


class Grow(nn.Module):
    """Two frames out of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2 * width, 1, bias=False)

    def forward(self, x):
        return self.conv(x).reshape(-1, *x.shape[1:])


def layers() -> nn.Sequential:
    parts = (
        nn.Conv2d(4, 6, 3, padding=1),
        Memory(6),
        Grow(6),
        Memory(6),
        Grow(6),
        Memory(6),
        nn.Conv2d(6, 3, 1),
    )
    return nn.Sequential(*parts)


def frame_by_frame(network: nn.Sequential, latents: torch.Tensor) -> torch.Tensor:
    """The definition: one frame at a time, each memory block beside its own last frame."""
    last: dict[int, torch.Tensor] = {}

    def walk(frame, index):
        if index == len(network):
            return [frame]
        layer = network[index]
        if isinstance(layer, Memory):
            past = last.get(index, torch.zeros_like(frame))
            last[index] = frame
            return walk(layer(frame, past), index + 1)
        return [out for part in layer(frame).split(1) for out in walk(part, index + 1)]

    frames = [out for t in range(latents.shape[2]) for out in walk(latents[:, :, t], 0)]
    return torch.stack([frame[0] for frame in frames], 1)[None, :, 3:]


@pytest.mark.parametrize("sizes", [[7], [1] * 7, [1, 3, 3], [3, 3, 1], [2, 5]])
def test_every_chunking_is_the_frame_by_frame_definition(sizes):
    network, latents = layers(), torch.randn(1, 4, 7, 5, 6)
    decoder = TinyDecoder(network)
    parts = [decoder.decode(part) for part in latents.split(sizes, dim=2)]
    assert [part.shape[2] for part in parts] == [4 * n - (3 if i == 0 else 0) for i, n in enumerate(sizes)]
    with torch.no_grad():
        expected = frame_by_frame(network, latents)
    assert float((torch.cat(parts, 2) - expected).abs().max()) < 1e-6
    assert float(expected.std()) > 0.01


def test_state_continues_and_reset_starts_again():
    network, latents = layers(), torch.randn(1, 4, 6, 5, 6)
    first, second = TinyDecoder(network), TinyDecoder(network)
    begun = first.decode(latents[:, :, :3])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.decode(latents[:, :, 3:]), second.decode(latents[:, :, 3:]))
    assert first.size_bytes == 3 * 6 * 30 * 4
    assert carried_bytes(network, latent_height=5, latent_width=6, itemsize=4) == first.size_bytes
    first.reset()
    assert torch.equal(first.decode(latents[:, :, :3]), begun)
    with pytest.raises(ValueError, match="which this decoder lacks"):
        first.load_state_dict({"latents": 1, "last.0": torch.zeros(1)})


def test_other_decoders_and_shapes_are_refused():
    with pytest.raises(ValueError, match="without memory blocks"):
        TinyDecoder(nn.Sequential(nn.Conv2d(4, 3, 1)))
    with pytest.raises(ValueError, match="expected \\(1, 16, T, H, W\\)"):
        TinyDecoder(layers()).decode(torch.zeros(1, 4, 5, 6))
