"""Streams whose history is pictures: Stop, Finish now, a broken run and kill -9 leave what was made, and go on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from talkstream.benchmarks.kill_runs import host as own_host
from talkstream.tests.nodes.client import Graph, changed, probe, queue, run, wait
from talkstream.tests.nodes.graphs import SAVE, STREAM, flashtalk, node
from talkstream.tests.nodes.test_multitalk_graph import infinitetalk, speakers
from talkstream.tests.nodes.test_stop import Browser
from talkstream.tests.nodes.test_takes import calls, pictures

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]


@dataclass(frozen=True)
class Case:
    """One student. chunks: frames of each; steps: network calls of a chunk."""

    graph: Callable[[float], Graph]
    seconds: float
    chunks: tuple[int, ...]
    steps: int


def two_speakers(seconds: float) -> Graph:
    """InfiniteTalk in two steps, the second voice shorter."""
    return speakers(infinitetalk(guidance=["51", 0]), first=seconds, second=seconds / 2)


CASES = {
    "flashtalk": Case(lambda seconds: flashtalk(seconds=seconds), 2.8, (28, 28, 14), 4),
    "infinitetalk": Case(two_speakers, 4.0, (81, 19), 2),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


@pytest.fixture
def browser(host_server) -> Iterator[Browser]:
    browser = Browser(host_server)
    yield browser
    browser.socket.close()


def counted(case: Case, *, seed: int, seconds: float | None = None, **save: object) -> Graph:
    """The student's graph; network calls are counted."""
    stream = {"model": ["30", 0], "seed": seed}
    graph = changed(case.graph(seconds or case.seconds), **{f"n{STREAM}": stream, f"n{SAVE}": save})
    return graph | {"30": node("TestCountCalls", model=["1", 0])}


def test_stop_keeps_a_playable_file(host_server, browser, case):
    """A long voice, stopped after its first chunk: whole chunks play; the next stream is whole."""
    prefix = f"stopped_{case.steps}/long"
    queue(host_server, counted(case, seed=61, seconds=90.0, filename_prefix=prefix), client_id=browser.id)
    asked, shown = False, []
    for kind, data in browser.events():
        saving = data["nodes"].get(SAVE, {}) if kind == "progress_state" else {}
        if saving.get("max", 0) > 1 and saving["value"] > 0 and not asked:
            asked = True
            host_server.request("/interrupt", b"{}")
        if kind == "executed" and data["node"] == SAVE:
            shown = data["output"]["images"]
        if kind in ("execution_interrupted", "execution_error", "execution_success"):
            break
    assert kind == "execution_interrupted"
    folder = host_server.base / "output" / prefix.split("/")[0]
    assert [path.name for path in folder.iterdir()] == [shown[0]["filename"]]
    assert shown[0]["filename"].endswith("_partial.mp4")
    found = probe(folder / shown[0]["filename"])
    first, later = case.chunks[0], 28 if case.steps == 4 else 72
    assert found.frames < 90 * 25 and (found.frames - first) % later == 0
    assert abs(found.samples / found.sample_rate - found.frames / 25) < 0.3
    after = run(host_server, counted(case, seed=61))
    assert after.error == ""
    assert probe(after.video(SAVE, host_server)).frames == sum(case.chunks)


def test_finish_now_is_a_success_that_the_next_run_goes_on_from(host_server, case):
    """Asked for in the first chunk: its frames are the film; the same graph again makes the rest alone."""
    graph = counted(case, seed=62)
    calls(host_server, finish_at=1)
    short = run(host_server, graph)
    assert (short.error, calls(host_server)) == ("", case.steps)
    whole = run(host_server, graph)
    assert (whole.error, calls(host_server)) == ("", case.steps * (len(case.chunks) - 1))
    again = run(host_server, changed(counted(case, seed=62), n9={"seconds": case.seconds + 1e-5}))
    assert (again.error, calls(host_server)) == ("", case.steps * len(case.chunks))
    films = [pictures(result.video(SAVE, host_server)) for result in (short, whole, again)]
    assert [len(film) for film in films] == [case.chunks[0], sum(case.chunks), sum(case.chunks)]
    assert np.array_equal(films[1], films[2])


def test_a_broken_run_goes_on_behind_its_last_chunk(host_server, case):
    """Broken in the second chunk with its state saved: motion frames, noise and voice go on, frame for frame."""
    whole = run(host_server, counted(case, seed=63, save_state_every=0))
    assert whole.error == ""
    graph = changed(counted(case, seed=63, save_state_every=1), n9={"seconds": case.seconds + 1e-5})
    calls(host_server, break_at=case.steps + 1)
    assert "chunk 1: this call was made to fail" in run(host_server, graph).error
    calls(host_server)
    resumed = run(host_server, graph)
    assert (resumed.error, calls(host_server)) == ("", case.steps * (len(case.chunks) - 1))
    films = [pictures(result.video(SAVE, host_server)) for result in (whole, resumed)]
    assert len(films[0]) == sum(case.chunks) and np.array_equal(*films)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_kill_in_the_middle(host_server, comfyui_path, tmp_path, monkeypatch):
    """A process of its own, killed once a chunk is safe: the file plays up to there, another process goes on."""
    monkeypatch.setenv("COMFYUI_PATH", str(comfyui_path))
    case = CASES["flashtalk"]
    graph = changed(flashtalk(seconds=6.0), n8={"save_state_every": 1, "filename_prefix": "killed"})
    whole = pictures(run(host_server, changed(graph, n8={"save_state_every": 0})).video(SAVE, host_server))
    (tmp_path / "models").symlink_to(host_server.base / "models")
    shutil.copytree(
        host_server.base / "custom_nodes" / "test_stand_ins", tmp_path / "custom_nodes" / "test_stand_ins"
    )
    with own_host(tmp_path) as server:
        queue(server, graph)
        while not list((tmp_path / "user" / "__talkstream" / "runs").glob("*/run.json")):
            assert server.process.poll() is None
            time.sleep(0.02)
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
    (growing,) = (tmp_path / "output").glob("killed_*_partial*.mp4")
    played = pictures(growing)
    assert case.chunks[0] - 2 <= len(played) < len(whole)
    assert np.array_equal(played, whole[: len(played)])
    with own_host(tmp_path) as server:
        result = wait(server, queue(server, graph))
        assert result.error == ""
        assert np.array_equal(pictures(result.video(SAVE, server)), whole)
        assert "TalkStream goes on at" in server.log.read_text("utf-8", errors="replace")
