"""The pack's routes on a real ComfyUI: what they give while a video grows, and what they refuse."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.parse

import pytest

from talkstream.tests.nodes.client import changed, queue, wait
from talkstream.tests.nodes.graphs import SAVE, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

FUZZ_CASES = 10_000
LIST = "/talkstream/growing"


class Client:
    """Requests over one connection, exactly as written: no client library tidies the path up."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=60)

    def ask(self, method: str, path: str, headers: dict | None = None, body: bytes | None = None):
        self.connection.request(method, path, body=body, headers=headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()


@pytest.fixture(scope="module")
def client(host_server):
    return Client(host_server.url)


@pytest.fixture
def growing(host_server, client):
    """Id of a prompt that writes for an hour, stopped after the test; its file has bytes already."""
    graph = changed(tiny(seconds=3600.0, sample_rate=8000), n6={"seed": 21}, n8={"filename_prefix": "grows/x"})
    prompt_id = queue(host_server, graph)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and client.ask("GET", f"{LIST}/{prompt_id}/{SAVE}")[0] != 200:
        time.sleep(0.1)
    yield prompt_id
    host_server.request("/interrupt", b"{}")
    wait(host_server, prompt_id)


def sentence(answer: bytes) -> str:
    return json.loads(answer)["error"]


def test_a_growing_file_is_read_piece_by_piece(host_server, client, growing):
    """The pieces are the file: what came first stays, what comes later is appended."""
    path = f"{LIST}/{growing}/{SAVE}"
    known = json.loads(client.ask("GET", LIST)[2])
    assert known == [{"prompt_id": growing, "node_id": SAVE, "workflow_id": ""}]
    pieces = b""
    deadline = time.monotonic() + 300
    while len(pieces) < 20_000 and time.monotonic() < deadline:
        status, kind, piece = client.ask("GET", path, {"Range": f"bytes={len(pieces)}-"})
        assert status in (204, 206)
        if status == 206:
            assert kind == "video/mp4"
            pieces += piece
        time.sleep(0.05)
    (file,) = (host_server.base / "output" / "grows").glob("*_partial*.mp4")
    assert len(pieces) >= 20_000
    assert file.read_bytes()[: len(pieces)] == pieces
    status, _, piece = client.ask("GET", path, {"Range": "bytes=4-7"})
    assert (status, piece) == (206, b"ftyp")
    assert client.ask("GET", path, {"Range": "bytes=900000000000-"})[0] == 204
    status, _, answer = client.ask("GET", path, {"Range": "bytes=-5"})
    assert (status, sentence(answer)) == (
        416,
        "got the range 'bytes=-5', expected bytes=first- or bytes=first-last",
    )


def test_an_ended_recording_has_nothing_more(host_server, client, growing):
    """A reader that comes a moment late is no error; the list is empty again."""
    host_server.request("/interrupt", b"{}")
    wait(host_server, growing)
    assert client.ask("GET", f"{LIST}/{growing}/{SAVE}", {"Range": "bytes=0-"})[0] == 204
    assert json.loads(client.ask("GET", LIST)[2]) == []


def test_an_unknown_recording_is_refused_with_a_sentence(client):
    status, _, answer = client.ask("GET", f"{LIST}/nothing/8")
    assert status == 404
    assert sentence(answer).startswith("prompt 'nothing' has no node '8' that writes a video now")
