"""Collect Frames without a model: which frames, sounds and latents it keeps, and when it stops."""

from __future__ import annotations

from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef

pytestmark = pytest.mark.host
CHUNK, FRAMES, RATE = 3, 60, 16000


def fake_frames():
    """60 numbered frames of 25 a second, whose voice counts its own samples."""
    samples = torch.arange(FRAMES * RATE // 25, dtype=torch.float32)
    speech = SimpleNamespace(samples_CS=samples[None], sample_rate=RATE)
    profile = SimpleNamespace(discarded_first_frames=0, motion_frames=0)
    return SimpleNamespace(
        frames=FRAMES,
        width=4,
        height=2,
        fps=Fraction(25),
        stream=SimpleNamespace(speech=speech, profile=profile),
        pasting=None,
    )


class FakePull:
    """Chunks whose pictures hold their frame's number and whose latents hold theirs."""

    def __init__(self):
        self.made, self.alive = 0, []

    def chunks(self):
        from talkstream.nodes.types import DecodedChunk

        first = 0
        while first < FRAMES:
            count = min(FRAMES - first, 4 * CHUNK - (3 if first == 0 else 0))
            pictures = torch.arange(first, first + count, dtype=torch.float32)[:, None, None, None]
            latent = torch.arange(CHUNK * self.made, CHUNK * (self.made + 1), dtype=torch.float32)
            chunk = DecodedChunk(
                self.made,
                first,
                pictures.expand(count, 2, 4, 3).clone(),
                latent[None, None, :, None, None].expand(1, 16, CHUNK, 2, 2).clone(),
            )
            self.alive.append(StorageWeakRef(chunk.pictures_FHWC.untyped_storage()))
            self.made += 1
            first += count
            yield chunk


@pytest.fixture
def pull(host, monkeypatch):
    from talkstream.nodes import record

    fake = FakePull()

    @contextmanager
    def pulling(frames, **_):
        yield fake

    monkeypatch.setattr(record, "pulling", pulling)
    monkeypatch.setattr(record, "to_vae_space", lambda latents: latents)
    return fake


def collect(start: int, limit: int):
    from talkstream.nodes.record import collect as collect_frames

    hidden = SimpleNamespace(unique_id="1", prompt=None)
    images, audio, latent = collect_frames(fake_frames(), start=start, limit=limit, hidden=hidden)
    return images[:, 0, 0, 0].tolist(), audio["waveform"][0, 0], latent["samples"][0, 0, :, 0, 0].tolist()


@pytest.mark.parametrize(
    ("start", "limit", "latents", "chunks"),
    [
        (0, 1, range(0, 1), 1),
        (0, 9, range(0, 3), 1),  # exactly the first chunk: the second is not made
        (0, 10, range(0, 4), 2),
        (7, 10, range(2, 5), 2),
        (30, 3, range(8, 9), 3),
        (33, 1, range(9, 10), 4),
        (58, 500, range(15, 16), 6),
    ],
)
def test_start_and_limit_are_exact(pull, start, limit, latents, chunks):
    """IMAGE, AUDIO and LATENT speak of the same frames, and no chunk behind them is made."""
    numbers, sound, latent = collect(start, limit)
    stop = min(FRAMES, start + limit)
    assert numbers == list(range(start, stop))
    assert sound.tolist() == list(range(start * RATE // 25, stop * RATE // 25))
    assert latent == list(latents)
    assert pull.made == chunks


def test_frames_before_the_start_are_let_go(pull):
    """Empty views of every chunk once kept all of the stream in memory."""
    collect(55, 5)
    assert len(pull.alive) == 6
    assert all(storage.expired() for storage in pull.alive[:-1])


def test_a_start_behind_the_end_is_refused(pull):
    with pytest.raises(ValueError, match="got start 60, but the stream has 60 frames"):
        collect(60, 1)
    assert pull.made == 0
