"""The real page in Chinese: a reload while a stream runs, texts of nodes from the cache, settings, About."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from talkstream.devtools.browser import find_browser
from talkstream.devtools.host import ROOT
from talkstream.devtools.schemas import read_json
from talkstream.devtools.server import Server, serve
from talkstream.tests.browser.graphs import with_voice, write_long_voice

pytestmark = [pytest.mark.host, pytest.mark.slow]

DRIVER = Path(__file__).with_name("pages.mjs")
PATIENCE_SECONDS = 300
VOICE = "talkstream_long_voice.wav"
CHINESE = ROOT / "locales" / "zh"


@pytest.fixture(scope="module")
def chinese_host(host_setup, tmp_path_factory) -> Iterator[Server]:
    """A host of its own: its user reads Chinese."""
    base = tmp_path_factory.mktemp("chinese_host")
    with serve(host_setup, base) as server:
        write_long_voice(base / "input" / VOICE, times=60)
        yield server


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = os.environ.get("TALKSTREAM_PICTURES")
    if not folder:
        return tmp_path_factory.mktemp("pictures")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def seen(chinese_host, pictures, tmp_path_factory) -> dict:
    """What that user saw; see pages.mjs."""
    browser = find_browser()
    if isinstance(browser, str):
        pytest.skip(browser)
    job = {
        "playwright": str(browser.playwright),
        "chromium": browser.chromium,
        "url": chinese_host.url,
        "patience": PATIENCE_SECONDS * 1000,
        "pictures": str(pictures),
        "graph": with_voice(VOICE),
    }
    file = tmp_path_factory.mktemp("job") / "job.json"
    file.write_text(json.dumps(job), "utf-8")
    done = subprocess.run(
        [browser.node, str(DRIVER), str(file)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=8 * PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    seen = json.loads(done.stdout)
    assert "failure" not in seen, json.dumps(seen, indent=1) + f"\npictures in {pictures}"
    return seen


def test_nodes_speak_chinese(seen):
    texts = read_json(CHINESE / "nodeDefs.json")
    for name, node in seen["nodes"].items():
        assert node["title"] == texts[name]["display_name"]
        inputs = texts[name].get("inputs", {})
        shown = {*node["widgets"], *node["inputs"]}
        assert {text["name"] for text in inputs.values() if "name" in text} <= shown, name


def test_settings_speak_chinese(seen):
    settings = read_json(CHINESE / "settings.json")
    assert [text["name"] for text in settings.values() if text["name"] not in seen["settings"]["text"]] == []


def test_about_names_the_version_and_where_it_comes_from(seen):
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    badges = dict(seen["settings"]["badges"])
    assert badges[f"TalkStream {version[1]}"] == "https://registry.comfy.org/nodes/talkstream"


def test_the_player_comes_back_after_a_reload(seen):
    """It plays what the prompt that began before the reload makes, and its button still works."""
    for state in (seen["before"], seen["after"]):
        assert state["end"] is None
        assert state["time"] > 0.2
        assert "立即完成" in state["words"]
        assert state["means"] == "在当前分块之后结束，并保留视频"
    assert seen["finished"] == {"end": "execution_success", "players": 0}


def test_the_next_run_goes_on_and_every_node_says_what_it_said(seen):
    """After another reload the student, the voice and the rest come from the host's cache, their texts too."""
    assert seen["again"]["end"] is None
    assert seen["finishedAgain"] == {"end": "execution_success", "players": 0}
    for name in ("TalkStreamLoadStudent", "TalkStreamEncodeSpeech", "TalkStreamSaveStream"):
        assert re.search(r"\d", seen["cached"][name]["text"]), name


def test_the_console_has_no_error_of_ours(seen):
    ours = [error for error in seen["errors"] if "talkstream" in error.lower() and "/docs/" not in error]
    assert ours == []
    assert [error for error in seen["errors"] if error.startswith("page error")] == []
