"""A stream is made once: takes, saved runs, and what is left of them when something goes wrong."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from talkstream.streaming.replay import Replay
from talkstream.streaming.saved_run import RunStore, SavedRun
from talkstream.streaming.spool import DamagedFileError, Spool
from talkstream.streaming.take import Take
from talkstream.tests.streaming.parts import Student, latents_of, voice

SHAPE = (1, 16, 3, 4, 4)
RECORD = 4 * 16 * 3 * 4 * 4 + 4
GB = 10**9


@pytest.fixture(scope="module")
def student() -> Student:
    return Student()


@pytest.fixture(scope="module")
def whole(student) -> torch.Tensor:
    """Nine chunks."""
    return latents_of(student.open(voice(4.0)))


class Calls:
    """Counts network calls."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, step, x0) -> None:
        self.count += 1


def take_in(folder: Path, *, limit: int = GB) -> Take:
    return Take(folder / "take", shape=SHAPE, total=9, limit_bytes=limit)


def pull(student, take, saved=None, *, chunks=9, every=0, calls=None) -> list[torch.Tensor]:
    """Play or make the first so many chunks, the way a write node does."""
    session = student.open(voice(4.0), on_step=calls)
    replay = Replay(session.plan, take=take, saved=saved, save_every=every)
    parts = []
    for part in replay.chunks(session if replay.needs_session else None):
        parts.append(part)
        if len(parts) == chunks:
            break
    replay.suspend()
    assert [part.index for part in parts] == list(range(chunks))
    assert [(p.first_frame, p.frames, p.skip, p.last) for p in parts] == [
        (c.first_frame, c.frames, c.skip, c.last) for c in map(session.plan.at, range(chunks))
    ]
    return [part.latent_BCTHW for part in parts]


def joined(parts) -> torch.Tensor:
    return torch.cat(parts, dim=2)


def test_a_second_pull_plays_the_take(student, whole, tmp_path):
    take, first, second = take_in(tmp_path), Calls(), Calls()
    assert torch.equal(joined(pull(student, take, calls=first)), whole)
    assert torch.equal(joined(pull(student, take, calls=second)), whole)
    assert (first.count, second.count) == (18, 0)
    assert take.size_bytes == 9 * RECORD


def test_a_pull_that_stops_early_is_continued(student, whole, tmp_path):
    """Two chunks, then four, then all: every network call is made once."""
    take, calls = take_in(tmp_path), Calls()
    for chunks in (2, 4, 1, 9):
        made = joined(pull(student, take, chunks=chunks, calls=calls))
        assert torch.equal(made, whole[:, :, : 3 * chunks])
    assert calls.count == 18


def test_a_pull_that_breaks_off_leaves_what_can_be_continued(student, whole, tmp_path):
    """Without a saved state the take is empty again; with one it goes back to it."""
    take = take_in(tmp_path)
    for before, after in ((0, 0), (3, 3)):
        if before:
            pull(student, take, chunks=before)
        session = student.open(voice(4.0))
        replay = Replay(session.plan, take=take)
        for part in replay.chunks(session):
            if part.index == 5:
                break
        assert take.chunks == 6
        replay.fail()
        assert take.chunks == after
    calls = Calls()
    assert torch.equal(joined(pull(student, take, calls=calls)), whole)
    assert calls.count == 2 * 6


def test_the_folder_goes_with_the_take(student, tmp_path):
    take = take_in(tmp_path)
    pull(student, take, chunks=2)
    assert (tmp_path / "take").is_dir()
    del take
    gc.collect()
    assert not (tmp_path / "take").exists()


@pytest.mark.parametrize("limit", [0, 4 * RECORD, 9 * RECORD - 1])
def test_a_take_beyond_the_limit_is_dropped(student, whole, tmp_path, caplog, limit):
    take, calls = take_in(tmp_path, limit=limit), Calls()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert torch.equal(joined(pull(student, take, calls=calls)), whole)
    assert calls.count == 2 * 18
    assert take.chunks == 0
    assert not (tmp_path / "take").exists()
    assert len([r for r in caplog.records if "keeps no take" in r.message]) == (limit > 0)


def test_a_disk_that_cannot_take_the_take_does_not_stop_the_stream(student, whole, tmp_path, caplog):
    (tmp_path / "file").write_text("a file where the folder should be")
    take = Take(tmp_path / "file" / "take", shape=SHAPE, total=9, limit_bytes=GB)
    with caplog.at_level(logging.INFO):
        assert torch.equal(joined(pull(student, take)), whole)
    assert take.dropped
    assert len([r for r in caplog.records if "keeps no take" in r.message]) == 1


def test_spool_finds_a_flipped_bit(tmp_path):
    spool = Spool(tmp_path / "latents", shape=(1, 2, 3, 4, 5))
    parts = [torch.randn(1, 2, 3, 4, 5) for _ in range(3)]
    for part in parts:
        spool.append(part)
    assert all(torch.equal(spool.read(i), part) for i, part in enumerate(parts))
    content = bytearray(spool.path.read_bytes())
    content[spool.record_bytes + 7] ^= 1
    spool.path.write_bytes(content)
    again = Spool(spool.path, shape=(1, 2, 3, 4, 5))
    assert torch.equal(again.read(2), parts[2])
    with pytest.raises(DamagedFileError, match="chunk 1"):
        again.check()


def store_in(folder: Path, **changes) -> RunStore:
    return RunStore(folder / "runs", **{"limit_bytes": GB, "keep_seconds": 1e6, **changes})


def interrupted(student, folder: Path, *, made: int, every: int) -> Iterator[SavedRun]:
    """A process that died after so many chunks: nothing of it lives on but the files."""
    saved = store_in(folder).open("f", shape=SHAPE)
    session = student.open(voice(4.0))
    replay = Replay(session.plan, take=take_in(folder), saved=saved, save_every=every)
    for _ in zip(range(made), replay.chunks(session), strict=False):
        pass
    saved.close()


@pytest.mark.parametrize(("made", "every", "kept"), [(6, 2, 4), (5, 1, 4), (1, 1, 0), (9, 4, 8)])
def test_a_run_goes_on_where_its_process_died(student, whole, tmp_path, made, every, kept):
    """The last save point is the one before the chunk that was being handed out."""
    interrupted(student, tmp_path, made=made, every=every)
    saved, calls = store_in(tmp_path).open("f", shape=SHAPE), Calls()
    assert saved.chunks == kept
    take = take_in(tmp_path)
    assert torch.equal(joined(pull(student, take, saved, every=every, calls=calls)), whole)
    assert calls.count == 2 * (9 - kept)
    assert take.complete
    saved.delete()
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("damage", ["state-4", "latents", "run.json", "gone", "short"])
def test_a_damaged_save_is_ignored_with_one_sentence(student, whole, tmp_path, caplog, damage):
    interrupted(student, tmp_path, made=6, every=2)
    run = tmp_path / "runs" / "f"
    if damage == "gone":
        (run / "state-4").unlink()
    elif damage == "short":
        (run / "latents").write_bytes(b"")
    else:
        content = bytearray((run / damage).read_bytes())
        content[len(content) // 3] ^= 4
        (run / damage).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        saved = store_in(tmp_path).open("f", shape=SHAPE)
    assert saved.chunks == 0
    assert len(caplog.records) == (damage != "gone")
    assert torch.equal(joined(pull(student, take_in(tmp_path), saved, every=2)), whole)
    saved.close()


def test_a_run_is_one_processs_at_a_time(student, tmp_path):
    first = store_in(tmp_path).open("f", shape=SHAPE)
    assert store_in(tmp_path).open("f", shape=SHAPE) is None
    first.close()
    second = store_in(tmp_path).open("f", shape=SHAPE)
    assert second is not None
    second.close()


def test_old_runs_are_removed_by_age_and_by_size(student, tmp_path):
    for name in ("a", "b", "c"):
        saved = store_in(tmp_path).open(name, shape=SHAPE)
        saved.append(0, torch.randn(SHAPE))
        saved.save_state({"next": 1})
        saved.close()
        time.sleep(0.02)
    one = saved.size_bytes
    used = store_in(tmp_path).open("a", shape=SHAPE)
    store_in(tmp_path, limit_bytes=2 * one + 10).open("d", shape=SHAPE).close()
    assert {p.name for p in (tmp_path / "runs").iterdir() if p.is_dir()} == {"a", "c"}
    used.close()
    store_in(tmp_path, keep_seconds=0.0).open("c", shape=SHAPE).close()
    assert {p.name for p in (tmp_path / "runs").iterdir() if p.is_dir()} == {"c"}


def test_a_full_disk_ends_the_saving_not_the_stream(student, whole, tmp_path, caplog, monkeypatch):
    """The system says ENOSPC in the middle; the save point before it stays good."""
    saved = store_in(tmp_path).open("f", shape=SHAPE)
    save = saved.save_state

    def full(state) -> None:
        if saved.chunks > 4:
            raise OSError(28, "No space left on device")
        save(state)

    monkeypatch.setattr(saved, "save_state", full)
    with caplog.at_level(logging.WARNING):
        assert torch.equal(joined(pull(student, take_in(tmp_path), saved, every=2)), whole)
    assert len([r for r in caplog.records if "saves no more" in r.message]) == 1
    saved.close()
    again = store_in(tmp_path).open("f", shape=SHAPE)
    assert again.chunks == 4
    again.close()
