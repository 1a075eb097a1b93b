"""The video beside the noise: whole encodes cut into latents, encoded once, exact however they are asked for."""

from __future__ import annotations

import shutil

import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig, normalise_latents
from talkstream.streaming.encoder import StreamingEncoder
from talkstream.streaming.mouth_mask import MouthMask
from talkstream.streaming.source_latents import (
    MEMORY_LATENTS,
    LatentStore,
    SegmentLatents,
    SourceConditioning,
)
from talkstream.tests.streaming.test_decoder import random_weights

SIDE = 16
CLIP = 7  # source frames


@pytest.fixture(scope="module")
def encoder():
    return StreamingEncoder(random_weights(CausalVAE(VAEConfig(dim=4))))


class Crops:
    """Random pictures by number, and how many were asked for."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.pictures = torch.rand(1, 3, CLIP, SIDE, SIDE, generator=generator) * 2 - 1
        self.asked = 0

    def __call__(self, sources):
        self.asked += len(sources)
        return self.pictures[:, :, list(sources)]


def looped(frames: int) -> list[int]:
    """0 .. 6 5 .. 1 0 ..: a period of 12 frames, so of 3 latents."""
    there_and_back = [*range(CLIP), *range(CLIP - 2, 0, -1)]
    return [there_and_back[frame % len(there_and_back)] for frame in range(frames)]


def store_in(folder, limit_bytes=10**9) -> LatentStore:
    return LatentStore(folder / "store", height=SIDE // 8, width=SIDE // 8, limit_bytes=limit_bytes)


def segment(encoder, crops, store, *, latents=40) -> SegmentLatents:
    return SegmentLatents(
        crops,
        encoder,
        sources=looped(4 * latents - 3),
        mask=MouthMask.drawn(),
        normalise=normalise_latents,
        store=store,
    )


@pytest.fixture(scope="module")
def whole(encoder):
    """Latents of the whole clip in one pass, and of the clip with its mouth grey."""
    frames = Crops()(looped(157))
    both = [encoder.sibling().encode(part) for part in (frames, MouthMask.drawn().blank(frames))]
    return normalise_latents(torch.cat(both))


def test_in_chunks_as_in_one_pass_and_a_looped_clip_is_encoded_once(encoder, whole, tmp_path):
    """Equal bits over many periods; once the encoder has forgotten the beginning, nothing more is encoded."""
    crops, store = Crops(), store_in(tmp_path)
    source = segment(encoder, crops, store)
    made = [source.read(first, 3) for first in range(0, 39, 3)]
    assert torch.equal(torch.cat(made, dim=2), whole[:, :, :39])
    assert store.pairs == MEMORY_LATENTS + 1 + 3  # to where the beginning is forgotten, and one period
    asked = crops.asked
    assert torch.equal(source.read(39, 1), whole[:, :, 39:40])
    assert torch.equal(segment(encoder, crops, store).read(0, 20), whole[:, :, :20])
    assert crops.asked == asked
    shutil.rmtree(store.folder)


def test_a_new_process_goes_on_in_the_middle(encoder, whole, tmp_path):
    """Nothing is saved: the encoders are led up from where they would have forgotten all before."""
    crops = Crops()
    source = segment(encoder, crops, store_in(tmp_path, limit_bytes=0))
    assert torch.equal(source.read(36, 2), whole[:, :, 36:38])
    assert crops.asked <= 1 + 4 * (MEMORY_LATENTS + 2)
    assert torch.equal(source.read(0, 1), whole[:, :, :1])
    assert not (tmp_path / "store").exists()


def test_behind_the_end_the_last_frame_stays(encoder, tmp_path):
    source = SegmentLatents(
        Crops(), encoder, sources=[0, 1, 2], mask=MouthMask.drawn(), normalise=normalise_latents,
        store=store_in(tmp_path),
    )  # fmt: skip
    expected = normalise_latents(encoder.sibling().encode(Crops()([0, 1, 2, 2, 2, 2, 2, 2, 2])))
    assert torch.equal(source.read(0, 3)[:1], expected)


def test_channels_come_in_the_published_order(encoder, whole, tmp_path):
    """Reference, mask, mouth blanked, whole; and a reference from elsewhere in place of the first latent."""
    mask = MouthMask.drawn().latents(2, 2)
    source = segment(encoder, Crops(), store_in(tmp_path))
    channels = SourceConditioning(source, mask).channels(3, 3)
    assert channels.shape == (1, 49, 3, 2, 2)
    assert torch.equal(channels[:, :16], whole[:1, :, :1].expand(-1, -1, 3, -1, -1))
    assert torch.equal(channels[0, 16], mask.expand(3, -1, -1))
    assert torch.equal(channels[:, 17:33], whole[1:, :, 3:6])
    assert torch.equal(channels[:, 33:], whole[:1, :, 3:6])
    other = torch.ones(1, 16, 1, 2, 2)
    assert torch.equal(SourceConditioning(source, mask, other).channels(0, 1)[:, :16], other)
