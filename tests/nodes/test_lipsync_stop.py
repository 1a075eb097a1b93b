"""Lip sync that is stopped, or whose run breaks off: what is left, and that the same graph goes on."""

from __future__ import annotations

import contextlib
import itertools
from fractions import Fraction

import numpy as np
import pytest

from talkstream.tests.nodes.client import Graph, changed, kept_in_history, probe, queue, run, wait
from talkstream.tests.nodes.graphs import node
from talkstream.tests.nodes.test_lipsync_graph import SAVE, graph
from talkstream.tests.nodes.test_stop import Browser
from talkstream.tests.nodes.test_takes import calls, pictures
from talkstream.tests.videos import numbered, write_video

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

TRACK = "6"
CUT, FRAMES = 30, 50
CALLS = (3 * 2 + 2) + (
    2 * 2 + 1
)  # 30 and 20 frames: steps, and the clean passes between the chunks of a shot
BREAK_AT = (
    3 * 2 + 3 + 2
)  # the second step of the second shot; saving ends the first one with a clean pass of its own
LEFT = 2 * 2 + 1  # the second shot, all of it


def of_file(content: Graph, name: str, *, box: str) -> Graph:
    """The graph over a video of the input folder."""
    other = changed(content, n6={"video": ["3", 0], "box": box})
    return other | {"3": node("LoadVideo", file=name)}


def stopped(server, content: Graph, *, after: str) -> tuple[list[dict], str]:
    """Presses Stop when a node's bar has moved: what Save Stream shows then, and the prompt's id."""
    browser, shown, asked = Browser(server), [], False
    with contextlib.closing(browser.socket):
        prompt_id = queue(server, content, client_id=browser.id)
        for kind, data in browser.events():
            bar = data["nodes"].get(after, {}) if kind == "progress_state" else {}
            if bar.get("max", 0) > 1 and bar["value"] > 0 and not asked:
                asked = True
                server.request("/interrupt", b"{}")
            if kind == "executed" and data["node"] == SAVE:
                shown = data["output"]["images"]
            if kind in ("execution_interrupted", "execution_error", "execution_success"):
                break
    assert kind == "execution_interrupted"
    return shown, prompt_id


def test_stop_keeps_the_pasted_video_so_far(host_server):
    """An hour is asked for over a video of seconds; the file plays at the video's own size and rate, with sound."""
    content = changed(graph(seconds=3600.0), n11={"filename_prefix": "lipsync_stopped/long"})
    shown, prompt_id = stopped(host_server, content, after=SAVE)
    (item,) = shown
    assert item["filename"].endswith("_partial.mp4")
    folder = host_server.base / "output" / "lipsync_stopped"
    assert [path.name for path in folder.iterdir()] == [item["filename"]]
    found = probe(folder / item["filename"])
    assert (found.fps, found.size) == (Fraction(30), (320, 240))
    assert 0 < found.frames < 3600 * 30
    assert abs(found.samples / 16000 - found.frames / 30) < 0.3
    kept = kept_in_history(host_server, wait(host_server, prompt_id), SAVE)
    assert kept == ("lipsync_stopped", item["filename"])
    after = run(host_server, graph(seconds=0.5))
    assert after.error == ""
    assert probe(after.video(SAVE, host_server)).frames == 15


def test_stop_while_the_face_is_followed(host_server):
    """Nothing is written, and the next prompt runs."""
    picture = numbered(7)
    write_video(host_server.base / "input" / "endless.mp4", list(itertools.repeat(picture, 6000)))
    content = of_file(graph(seconds=0.4), "endless.mp4", box="30, 10, 50, 52")
    content = changed(content, n11={"filename_prefix": "lipsync_untracked/video"})
    shown, _ = stopped(host_server, content, after=TRACK)
    assert shown == []
    assert not list((host_server.base / "output").glob("lipsync_untracked/*"))
    assert run(host_server, graph(seconds=0.2)).error == ""


def test_a_broken_run_goes_on_behind_the_cut(host_server):
    """It fails in the second shot; the next run makes what was left alone, and the frames are those of one run."""
    shots = [
        np.where(numbered(n) == 100, 180, numbered(n)) if n >= CUT else numbered(n) for n in range(FRAMES)
    ]
    write_video(host_server.base / "input" / "cut.mp4", [shot.astype(np.uint8) for shot in shots])
    content = of_file(graph(seconds=FRAMES / 25), "cut.mp4", box="30, 10, 50, 52")
    content = changed(content, n8={"model": ["30", 0]}, n11={"save_state_every": 1})
    content["30"] = node("TestCountCalls", model=["1", 0])
    calls(host_server, break_at=BREAK_AT)
    broken = run(host_server, content)
    assert "Stream Chunks #8, chunk 3: this call was made to fail" in broken.error
    calls(host_server)
    resumed = run(host_server, changed(content, n11={"filename_prefix": "lipsync_resumed/video"}))
    assert (resumed.error, calls(host_server)) == ("", LEFT)
    frames = pictures(resumed.video(SAVE, host_server))
    assert len(frames) == FRAMES
    # a setting that changes no frame here keeps the host from giving what it has made already
    whole = run(host_server, changed(content, n6={"bridge_frames": 9}, n11={"save_state_every": 0}))
    assert (whole.error, calls(host_server)) == ("", CALLS)
    assert "2 shots" in whole.outputs[TRACK]["text"][0]
    assert np.array_equal(frames, pictures(whole.video(SAVE, host_server)))
