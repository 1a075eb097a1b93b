"""The real page in Chromium, in both renderers: templates, Run, previews, the player with sound, Finish now, Stop.

The pictures it takes are kept in TALKSTREAM_PICTURES, or in pytest's temporary folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from talkstream.devtools.browser import find_browser
from talkstream.devtools.server import Server, serve
from talkstream.tests.browser.graphs import with_voice, write_long_voice
from talkstream.tests.nodes.client import probe
from talkstream.tests.workflows.graphs import NAMES, executable_nodes, read_ui, widget_names

pytestmark = [pytest.mark.host, pytest.mark.slow]

DRIVER = Path(__file__).with_name("drive.mjs")
PATIENCE_SECONDS = 150
VOICE = "talkstream_long_voice.wav"
STREAM, DECODE, SAVE = "6", "7", "8"  # in the quickstart


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = os.environ.get("TALKSTREAM_PICTURES")
    if not folder:
        return tmp_path_factory.mktemp("pictures")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def widgets_of_save(object_info) -> list[str]:
    return widget_names(object_info["TalkStreamSaveStream"])


@pytest.fixture(scope="module", params=["nodes2", "classic"])
def renderer(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def page_host(renderer, host_setup, tmp_path_factory) -> Iterator[Server]:
    """A host of its own for each renderer: its user has never opened a page before."""
    with serve(host_setup, tmp_path_factory.mktemp(f"page_host_{renderer}")) as server:
        yield server


@pytest.fixture(scope="module")
def voice_seconds(page_host) -> float:
    return write_long_voice(page_host.base / "input" / VOICE, times=20)


@pytest.fixture(scope="module")
def seen(renderer, page_host, voice_seconds, pictures, tmp_path_factory) -> dict:
    """What one user of one renderer saw; see drive.mjs."""
    browser = find_browser()
    if isinstance(browser, str):
        pytest.skip(browser)
    job = {
        "playwright": str(browser.playwright),
        "chromium": browser.chromium,
        "url": page_host.url,
        "renderer": renderer,
        "patience": PATIENCE_SECONDS * 1000,
        "pictures": str(pictures),
        "templates": NAMES,
        "graph": with_voice(VOICE),
        "firstSeed": 101,
    }
    file = tmp_path_factory.mktemp("job") / "job.json"
    file.write_text(json.dumps(job), "utf-8")
    done = subprocess.run(
        [browser.node, str(DRIVER), str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=6 * PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    seen = json.loads(done.stdout)
    assert "failure" not in seen, json.dumps(seen, indent=1) + f"\npictures in {pictures}"
    return seen


@pytest.mark.parametrize("name", NAMES)
def test_every_template_loads_whole(seen, widgets_of_save, name):
    found = seen["templates"][name]
    assert found["missing"] == []
    assert found["nodes"] == len(read_ui(name)["nodes"])
    assert found["widgets"] == widgets_of_save


def test_the_console_has_no_error_of_ours(seen):
    ours = [error for error in seen["errors"] if "TalkStream" in error or "talkstream" in error]
    assert [error for error in ours if not error_of_the_host(error)] == []
    assert [error for error in seen["errors"] if error.startswith("page error")] == []


def error_of_the_host(error: str) -> bool:
    """The front end asks for help in the page's language first, and for pictures that a template may lack."""
    return "404" in error and ("/docs/" in error or "workflow_templates" in error)


def test_bars_and_previews_are_on_the_right_nodes(seen):
    for state in (seen["live"]["second"], seen["liveAgain"]["second"]):
        assert set(state["previews"]) == {DECODE}
        assert {STREAM, DECODE, SAVE} <= set(state["bars"])


@pytest.mark.parametrize("run", ["live", "liveAgain"])
def test_the_player_plays_with_sound_while_the_video_is_made(seen, run):
    first, second = seen[run]["first"], seen[run]["second"]
    assert first["end"] is None
    assert second["end"] is None
    assert second["time"] > first["time"] > 0
    assert first["audioBytes"] > 0
    assert second["frames"] > 0
    assert not second["muted"]
    assert min(second["size"]) > 100


def test_the_player_is_never_saved_or_queued(seen, widgets_of_save):
    """Neither in the workflow nor in the API format, also while it is on the node."""
    saved = read_ui("talkstream_quickstart")
    save = next(node for node in executable_nodes(saved) if node["type"] == "TalkStreamSaveStream")
    state = seen["live"]["second"]
    assert len(state["savedValues"]) == len(widgets_of_save)
    assert state["savedValues"][: len(save["widgets_values"])] == save["widgets_values"]
    assert set(state["queued"]) == {"frames", *widgets_of_save}


def test_save_stream_says_how_far_it_is(seen):
    assert re.search(r"\d+\.\d", seen["live"]["second"]["text"])
    assert re.search(r"\d+", seen["finished"]["text"])


def test_finish_now_shows_the_finished_video(seen, voice_seconds):
    end = seen["finished"]
    assert (end["end"], end["error"], end["players"]) == ("execution_success", "", 0)
    (video,) = end["shown"]
    assert "_partial" not in video["source"]
    assert 1 < video["seconds"] < voice_seconds - 1
    assert video["height"] > 100


def test_stop_shows_the_partial_video(seen):
    end = seen["stopped"]
    assert (end["end"], end["players"]) == ("execution_interrupted", 0)
    (video,) = end["shown"]
    assert "_partial" in video["source"]
    assert video["seconds"] > 0.3, "at least the first chunk"


def test_the_help_page_opens(seen):
    assert "goes on at the growing end" in seen["help"]


def test_the_files_are_whole(seen, page_host):
    """What the node shows is what lies in the output folder, as long as the page says."""
    for end in (seen["finished"], seen["stopped"]):
        name = end["shown"][0]["source"].split("filename=")[1].split("&")[0]
        found = probe(page_host.base / "output" / "video" / name)
        assert abs(found.frames / 25 - end["shown"][0]["seconds"]) < 0.3
        assert found.samples > 0
