"""A stream is made once, however often it is pulled, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from talkstream.tests.nodes.client import Graph, changed, kept_in_history, run
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, node, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

CALLS = 3 * 2 + 2  # chunks times steps, and the clean passes between them
LIMIT = "/settings/TalkStream.Takes.LimitGB"


def counted(*, seed: int, seconds: float = 1.0) -> Graph:
    """The tiny graph; its network calls are counted."""
    graph = changed(tiny(seconds=seconds), n6={"model": ["30", 0], "seed": seed})
    graph["30"] = node("TestCountCalls", model=["1", 0])
    return graph


def collecting(graph: Graph, **inputs) -> Graph:
    """A second output that tells every bit of the frames."""
    collect = node("TalkStreamCollectFrames", **{"frames": [DECODE, 0], "start": 0, "limit": 500, **inputs})
    return {**graph, "20": collect, "21": node("TestDigest", image=["20", 0])}


def calls(server, **options) -> int:
    return server.json("/test/calls", options)["made"]


def takes(server) -> list[Path]:
    """Folders of takes in the host's temp folder."""
    return sorted(server.base.glob("temp-*/temp/talkstream/*/take-*"))


def pictures(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.video[0])])


def test_a_changed_last_node_runs_decode_and_write_only(host_server):
    """Other file name, other quality, other number format of the decoder: not one network call."""
    graph = collecting(counted(seed=101))
    calls(host_server)
    first = run(host_server, graph)
    assert first.error == ""
    assert calls(host_server) == CALLS
    renamed = run(host_server, changed(graph, n8={"filename_prefix": "again/other"}))
    smaller = run(host_server, changed(graph, n8={"filename_prefix": "again/small", "crf": 40.0}))
    recollected = run(host_server, changed(graph, n20={"limit": 400}))
    redecoded = run(host_server, changed(graph, n7={"precision": "as loaded"}))
    assert [result.error for result in (renamed, smaller, recollected, redecoded)] == [""] * 4
    assert calls(host_server) == 0
    paths = [result.video(SAVE, host_server) for result in (first, renamed, smaller)]
    assert len(set(paths)) == 3
    assert np.array_equal(pictures(paths[0]), pictures(paths[1]))
    assert paths[2].stat().st_size < paths[0].stat().st_size
    assert recollected.outputs["21"]["text"] == first.outputs["21"]["text"]
    assert first.outputs["21"]["text"][0].startswith("(25, 32, 32, 3)")


def test_outputs_share_one_generation(host_server):
    """Two files and a piece of 10 frames, in whichever order the host runs them."""
    graph = collecting(counted(seed=102), limit=10)
    graph["18"] = node("TalkStreamSaveStream", frames=[DECODE, 0], filename_prefix="second", crf=30.0)
    calls(host_server)
    result = run(host_server, graph)
    assert result.error == ""
    assert calls(host_server) == CALLS
    assert (
        len(pictures(result.video(SAVE, host_server))) == len(pictures(result.video("18", host_server))) == 25
    )


def test_a_piece_first_and_the_whole_later(host_server):
    """Collect Frames makes one chunk; Save Stream goes on behind it."""
    graph = collecting(counted(seed=103), limit=5)
    piece = {key: value for key, value in graph.items() if key != SAVE}
    calls(host_server)
    assert run(host_server, piece).error == ""
    assert calls(host_server) == 3  # two steps, and the clean pass that is part of the saved state
    whole = run(host_server, graph)
    assert calls(host_server) == CALLS - 3
    other = run(host_server, counted(seed=103, seconds=1.0))
    assert np.array_equal(pictures(whole.video(SAVE, host_server)), pictures(other.video(SAVE, host_server)))


def test_a_run_after_finish_now_goes_on_behind_it(host_server):
    """The same graph again: not the short video from the host's cache, nor the first chunk a second time."""
    graph = counted(seed=107)
    calls(host_server, finish_at=2)
    short = run(host_server, graph)
    assert calls(host_server) == 3  # two steps, and the clean pass that is part of the saved state
    whole = run(host_server, graph)
    assert calls(host_server) == CALLS - 3
    cached = run(host_server, graph)
    assert [result.error for result in (short, whole, cached)] == [""] * 3
    assert cached.outputs[SAVE] == whole.outputs[SAVE]
    files = [pictures(result.video(SAVE, host_server)) for result in (short, whole)]
    assert [len(file) for file in files] == [9, 25]
    again = run(host_server, changed(counted(seed=107), n8={"filename_prefix": "uninterrupted"}))
    assert np.array_equal(pictures(again.video(SAVE, host_server)), files[1])


def test_temp_is_clean(host_server):
    """At most the last graph's take, whatever was run before, and none when the host lets its results go.

    The host collects what its last prompts leave behind in cycles every ten seconds.
    """
    for number in range(20):
        assert run(host_server, counted(seed=200 + number, seconds=0.2)).error == ""
    assert takes_left(host_server, wanted=2) <= 2
    host_server.request("/free", b'{"free_memory": true}')
    assert takes_left(host_server, wanted=0) == 0


def takes_left(server, *, wanted: int) -> int:
    """Number of takes in temp, waiting up to a minute until there are no more than wanted."""
    deadline = time.monotonic() + 60
    while len(takes(server)) > wanted and time.monotonic() < deadline:
        time.sleep(0.2)
    return len(takes(server))


def test_a_take_beyond_the_limit_is_not_kept(host_server):
    """The limit is a setting; the next pull makes the stream anew."""
    graph = counted(seed=104)
    host_server.request(LIMIT, b"0.000004")
    try:
        calls(host_server)
        before = takes(host_server)
        for name in ("one", "two"):
            assert run(host_server, changed(graph, n8={"filename_prefix": name})).error == ""
            assert calls(host_server) == CALLS
        assert set(takes(host_server)) <= set(before)
    finally:
        host_server.request(LIMIT, b"8")


def test_a_failure_names_its_place_and_keeps_what_was_finished(host_server):
    """Partial file on the node, in the history and in the sentence; the unfinished take is gone."""
    graph = changed(counted(seed=105), n8={"filename_prefix": "broken/video"})
    before = takes(host_server)
    calls(host_server, break_at=4)
    result = run(host_server, graph)
    calls(host_server)
    assert result.error.startswith(f"Stream Chunks #{STREAM}, chunk 1: this call was made to fail\n")
    folder = host_server.base / "output" / "broken"
    partial = folder / "video_00001_partial.mp4"
    assert str(partial) in result.error
    assert list(folder.iterdir()) == [partial]
    assert len(pictures(partial)) == 9
    assert set(takes(host_server)) <= set(before)
    assert kept_in_history(host_server, result) == ("broken", partial.name)
    again = run(host_server, graph)
    assert (again.error, calls(host_server)) == ("", CALLS)


def test_a_disk_that_fills_in_the_middle(host_server):
    """One sentence, and everything before it plays."""
    host_server.json("/test/full_disk", {"frame": 14})
    try:
        result = run(host_server, changed(counted(seed=106), n8={"filename_prefix": "full/video"}))
    finally:
        host_server.json("/test/full_disk", {})
    partial = host_server.base / "output" / "full" / "video_00001_partial.mp4"
    assert len(result.error.splitlines()) == 1
    assert result.error.startswith(f"Save Stream #{SAVE}, chunk 1: the disk of {partial.parent} is full")
    assert result.error.endswith(str(partial))
    assert len(pictures(partial)) == 14
    assert kept_in_history(host_server, result) == ("full", partial.name)


def test_takes_of_dead_processes_go_and_those_of_living_ones_stay(host, tmp_path):
    """A process that holds its folder's lock, one that was killed, and this one."""
    from talkstream.nodes.host.takes import ProcessFolder, remove_stale

    code = (
        "import fcntl, sys, pathlib, time; home = pathlib.Path(sys.argv[1]); (home / 'other').mkdir(parents=True);"
        "(home / 'other' / 'take-1').mkdir(); file = open(home / 'other.lock', 'ab');"
        "fcntl.flock(file, fcntl.LOCK_EX); print('ready', flush=True); time.sleep(600)"
    )
    if sys.platform == "win32":
        pytest.skip("the other process is written for POSIX locks")
    home = tmp_path / "talkstream"
    other = subprocess.Popen([sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "ready\n"
        living = ProcessFolder(tmp_path)  # it holds its lock as long as it is held
        own = living.next()
        own.mkdir(parents=True)
        remove_stale(home)
        assert (home / "other" / "take-1").is_dir()
        assert own.is_dir()
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    remove_stale(home)
    assert not (home / "other").exists()
    assert own.is_dir()
