"""The pack's routes on a real ComfyUI: what they give while a video grows, and what they refuse."""

from __future__ import annotations

import http.client
import itertools
import json
import random
import time
import urllib.parse

import pytest

from talkstream.tests.nodes.client import changed, probe, queue, wait
from talkstream.tests.nodes.graphs import SAVE, STREAM, tiny

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("model_files")]

FUZZ_CASES = 10_000
LIST = "/talkstream/growing"
CLIENT = "the-page-that-queued"
SEEDS = itertools.count(21)


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
    client = Client(host_server.url)
    yield client
    client.connection.close()


@pytest.fixture
def growing(host_server, client):
    """Id of a prompt that writes for an hour, stopped after the test; its file has bytes already.

    Every test's has a seed of its own: one that ended as a success would be served from the host's cache.
    """
    graph = changed(
        tiny(seconds=3600.0, sample_rate=8000), n6={"seed": next(SEEDS)}, n8={"filename_prefix": "grows/x"}
    )
    prompt_id = queue(host_server, graph, client_id=CLIENT)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and client.ask("GET", f"{LIST}/{prompt_id}/{SAVE}")[0] != 200:
        time.sleep(0.1)
    assert client.ask("GET", f"{LIST}/{prompt_id}/{SAVE}")[0] == 200
    yield prompt_id
    host_server.request("/interrupt", b"{}")
    wait(host_server, prompt_id)
    for file in (host_server.base / "output" / "grows").iterdir():
        file.unlink()


def sentence(answer: bytes) -> str:
    return json.loads(answer)["error"]


def test_a_growing_file_is_read_piece_by_piece(host_server, client, growing):
    """The pieces are the file: what came first stays, what comes later is appended."""
    path = f"{LIST}/{growing}/{SAVE}"
    known = json.loads(client.ask("GET", LIST)[2])
    assert known == [{"prompt_id": growing, "node_id": SAVE, "workflow_id": ""}]
    assert json.loads(client.ask("GET", f"{LIST}?client_id=somebody")[2]) == []
    assert json.loads(client.ask("GET", f"{LIST}?client_id={CLIENT}")[2]) == known
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


def test_finish_now_ends_the_stream_as_a_success(host_server, client, growing):
    status, _, answer = client.ask("POST", f"/talkstream/finish/{growing}/{SAVE}", body=b"")
    assert (status, json.loads(answer)) == (200, {"finishing": {"prompt_id": growing, "node_id": SAVE}})
    result = wait(host_server, growing)
    assert result.error == ""
    assert 0 < probe(result.video(SAVE, host_server)).frames < 3600 * 25
    status, _, answer = client.ask("POST", f"/talkstream/finish/{growing}/{SAVE}", body=b"")
    assert status == 404
    assert sentence(answer).startswith(f"prompt '{growing}' has no node '{SAVE}' that runs a stream now")


PIECES = [
    *("..", ".", "%2e%2e", "%2f", "/", "\\", "~", "%00", "\x00", "C:", "file://", "etc/passwd", "secret.txt"),
    *("output", "grows", "_partial.mp4", "null", "undefined", "-1", "0", "8", "5:1", "é", "\U0001f600", "'"),
    *('"', "<script>", "${x}", "{}", "%", "%25", "?", "#", "&", ";", "\r\n", " ", "\t", "a" * 300),
]
RANGES = [
    "bytes=0-",
    "bytes=5-2",
    "bytes=-1",
    "bytes=a-b",
    "bits=0-",
    "bytes=0-0,4-5",
    "bytes=" + "9" * 40 + "-",
]


def fuzzed_segment(chance: random.Random, known: list[str]) -> str:
    """A path segment: one that exists, or rubbish."""
    if chance.random() < 0.2:
        return chance.choice(known)
    return "".join(chance.choice(PIECES) for _ in range(chance.randint(1, 4)))


@pytest.mark.slow
def test_no_request_breaks_a_route_or_reaches_another_file(host_server, client, growing):
    """10 000 seeded requests: every refusal is a JSON sentence, nothing outside is read, no file appears."""
    secret = b"nobody may read this"
    (host_server.base / "secret.txt").write_bytes(secret)
    kept = set(host_server.base.glob("custom_nodes/*")) | set(host_server.base.glob("*"))
    chance = random.Random(20260)
    statuses: dict[int, int] = {}
    for _ in range(FUZZ_CASES):
        method, route = chance.choice([("GET", "growing"), ("POST", "finish")])
        prompt_id, node_id = (fuzzed_segment(chance, known) for known in ([growing], [SAVE, STREAM]))
        if method == "POST" and (prompt_id, node_id) == (growing, SAVE):
            continue  # would end the stream that the others read
        path = f"/talkstream/{route}/{urllib.parse.quote(prompt_id, safe='')}/"
        path += urllib.parse.quote(node_id, safe="")
        headers = {"Range": chance.choice(RANGES)} if chance.random() < 0.5 else {}
        body = chance.randbytes(chance.randint(0, 64)) if method == "POST" else None
        status, kind, answer = client.ask(method, path, headers, body)
        statuses[status] = statuses.get(status, 0) + 1
        assert status in (200, 204, 206, 404, 416), (method, path, headers, status, answer[:200])
        assert secret not in answer
        if status >= 400 and not {prompt_id, node_id} & {".", ".."}:
            assert kind.startswith("application/json"), (method, path, headers)
            assert len(sentence(answer)) < 400
    assert set(host_server.base.glob("custom_nodes/*")) | set(host_server.base.glob("*")) == kept
    assert {200, 404, 416} <= statuses.keys()
