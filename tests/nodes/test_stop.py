"""What the browser hears while a stream runs, and what Stop leaves behind."""

from __future__ import annotations

import json
import struct
import time
import uuid
from collections.abc import Iterator

import pytest

from talkstream.devtools.server import Server
from talkstream.tests.nodes.client import changed, kept_in_history, probe, queue, wait
from talkstream.tests.nodes.graphs import DECODE, SAVE, STREAM, node, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

PREVIEW_WITH_METADATA = 4
PREVIEWS_PER_SECOND = 8


class Browser:
    """A WebSocket client that wants previews with metadata, as the front end does."""

    def __init__(self, server: Server) -> None:
        websocket = pytest.importorskip("websocket")
        self.id = uuid.uuid4().hex
        self.socket = websocket.create_connection(
            f"{server.url.replace('http', 'ws')}/ws?clientId={self.id}", timeout=60
        )
        flags = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        self.socket.send(json.dumps(flags))

    def events(self) -> Iterator[tuple[str, dict]]:
        """Every message as (type, data); previews as ("preview", their metadata)."""
        while True:
            message = self.socket.recv()
            if isinstance(message, str):
                event = json.loads(message)
                yield event["type"], event["data"]
            elif struct.unpack(">I", message[:4])[0] == PREVIEW_WITH_METADATA:
                length = struct.unpack(">I", message[4:8])[0]
                yield "preview", json.loads(message[8 : 8 + length])


@pytest.fixture
def browser(host_server) -> Iterator[Browser]:
    browser = Browser(host_server)
    yield browser
    browser.socket.close()


def test_bars_upstream_and_previews_on_decode_only(host_server, browser):
    """A node that ends with a video must not get preview frames: the front end then fails to show the video."""
    started = time.monotonic()
    queue(host_server, changed(tiny(seconds=4.0), n6={"seed": 11}), client_id=browser.id)
    bars, previewed = {}, []
    for kind, data in browser.events():
        if kind == "progress_state":
            for node_id, state in data["nodes"].items():
                bars[node_id] = max(bars.get(node_id, (0, 0)), (state["max"], state["value"]))
        if kind == "preview":
            previewed.append(data["node_id"])
        if kind in ("execution_success", "execution_error"):
            break
    assert kind == "execution_success"
    assert bars[STREAM] == (9 * 2, 9 * 2)  # chunks times steps
    assert bars[DECODE] == (100, 100)
    assert bars[SAVE] == (100, 100)
    assert set(previewed) == {DECODE}
    assert len(previewed) <= 1 + PREVIEWS_PER_SECOND * (time.monotonic() - started)


def test_stop_keeps_a_playable_file(host_server, browser):
    """An hour is asked for and stopped after its first frames."""
    graph = changed(
        tiny(seconds=3600.0, sample_rate=8000), n6={"seed": 12}, n8={"filename_prefix": "stopped/long"}
    )
    prompt_id = queue(host_server, graph, client_id=browser.id)
    asked, shown = False, []
    for kind, data in browser.events():
        written = kind == "progress_state" and data["nodes"].get(SAVE, {}).get("max", 0) > 1
        if written and data["nodes"][SAVE]["value"] > 0 and not asked:
            asked = True
            host_server.request("/interrupt", b"{}")
        if kind == "executed" and data["node"] == SAVE:
            shown = data["output"]["images"]
        if kind in ("execution_interrupted", "execution_error", "execution_success"):
            break
    assert kind == "execution_interrupted"
    assert [item["subfolder"] for item in shown] == ["stopped"]
    assert shown[0]["filename"].endswith("_partial.mp4")
    folder = host_server.base / "output" / "stopped"
    assert [path.name for path in folder.iterdir()] == [shown[0]["filename"]]
    found = probe(folder / shown[0]["filename"])
    assert 0 < found.frames < 3600 * 25
    assert abs(found.samples / 8000 - found.frames / 25) < 0.3
    kept = kept_in_history(host_server, wait(host_server, prompt_id))
    assert kept == ("stopped", shown[0]["filename"])


def test_the_session_after_a_stop_is_whole(host_server, browser):
    """Nothing of the stopped stream is left: the next one runs to its end."""
    result = wait(
        host_server, queue(host_server, changed(tiny(seconds=0.5), n6={"seed": 12}), client_id=browser.id)
    )
    assert result.error == ""
    assert probe(result.video(SAVE, host_server)).frames == 13


def test_finish_now_ends_as_a_success(host_server, browser):
    """The file is complete: no _partial, the frames made, their sound; the count on the wire is that of the file."""
    graph = changed(
        tiny(seconds=3600.0, sample_rate=8000), n6={"seed": 13}, n8={"filename_prefix": "finished/long"}
    )
    graph["15"] = node("PreviewAny", source=[SAVE, 1])
    prompt_id = queue(host_server, graph, client_id=browser.id)
    asked = False
    for kind, data in browser.events():
        saving = data["nodes"].get(SAVE, {}) if kind == "progress_state" else {}
        if saving.get("max", 0) > 1 and saving["value"] > 0 and not asked:
            asked = bool(host_server.json(f"/talkstream/finish/{prompt_id}/{SAVE}", {}))
        if kind in ("execution_interrupted", "execution_error", "execution_success"):
            break
    assert kind == "execution_success"
    result = wait(host_server, prompt_id)
    path = result.video(SAVE, host_server)
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    assert "_partial" not in path.name
    found = probe(path)
    assert 0 < found.frames < 3600 * 25
    assert result.outputs["15"]["text"] == [str(found.frames)]
    assert 0 <= found.samples - found.frames * 8000 // 25 < 2 * 1024
