"""The pack's HTTP routes: read a video while it grows, and end a stream early.

A client names a prompt and a node, never a file. Every refusal is JSON with one sentence under "error".
"""

from __future__ import annotations

import re
from pathlib import Path

from aiohttp import web
from server import PromptServer

from .finishing import FINISH
from .growing_files import GROWING, GrowingFile

LIST = "/talkstream/growing"
READ = "/talkstream/growing/{prompt_id:[^/]+}/{node_id:[^/]+}"
FINISH_NOW = "/talkstream/finish/{prompt_id:[^/]+}/{node_id:[^/]+}"

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{0,15})", re.ASCII)
_SHOWN = 60  # characters of a client's text that an answer repeats


class Refusal(ValueError):
    """A request that cannot be served: status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def answer(self) -> web.Response:
        """The JSON that the client gets."""
        return web.json_response({"error": str(self)}, status=self.status)


def register_routes() -> None:
    """Adds the routes to the host's server, which mirrors them under /api; nothing without a server."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.routes.get(LIST)(list_growing)
        server.routes.get(READ)(read_growing)
        server.routes.post(FINISH_NOW)(finish_now)


async def list_growing(request: web.Request) -> web.Response:
    """Every video that is being written now; with ?client_id=, only those that this page queued."""
    client_id = request.query.get("client_id")
    files = [file for file in GROWING.running() if client_id in (None, file.client_id)]
    return web.json_response([file.public() for file in files])


async def read_growing(request: web.Request) -> web.StreamResponse:
    """Bytes of a growing file from the asked one on; 204 where there are none yet, or no more."""
    try:
        file = asked_file(request)
        start = first_byte(request.headers.get("Range"))
    except Refusal as refusal:
        return refusal.answer()
    if not file.running or start >= written_bytes(file.path):
        return web.Response(status=204, headers={"Cache-Control": "no-store"})
    return web.FileResponse(file.path, headers={"Content-Type": "video/mp4", "Cache-Control": "no-store"})


async def finish_now(request: web.Request) -> web.Response:
    """Ends a running stream after its current chunk, as a success."""
    prompt_id, node_id = request.match_info["prompt_id"], request.match_info["node_id"]
    if FINISH.request(prompt_id, node_id):
        return web.json_response({"finishing": {"prompt_id": prompt_id, "node_id": node_id}})
    return unknown(prompt_id, node_id, "runs a stream").answer()


def asked_file(request: web.Request) -> GrowingFile:
    """The file that a request names. Raises Refusal for one that is unknown."""
    prompt_id, node_id = request.match_info["prompt_id"], request.match_info["node_id"]
    file = GROWING.find(prompt_id, node_id)
    if file is None:
        raise unknown(prompt_id, node_id, "writes a video")
    return file


def unknown(prompt_id: str, node_id: str, doing: str) -> Refusal:
    """No such node at work."""
    return Refusal(
        404,
        f"prompt {prompt_id[:_SHOWN]!r} has no node {node_id[:_SHOWN]!r} that {doing} now; "
        f"GET {LIST} lists the videos that are being written",
    )


def first_byte(header: str | None) -> int:
    """Where a Range header begins, 0 without one. Raises Refusal for anything but bytes=first- or first-last."""
    if header is None:
        return 0
    found = _RANGE.fullmatch(header)
    if found is None or (found[2] and int(found[2]) < int(found[1])):
        raise Refusal(416, f"got the range {header[:_SHOWN]!r}, expected bytes=first- or bytes=first-last")
    return int(found[1])


def written_bytes(path: Path) -> int:
    """Size of the file now; 0 once it was completed and moved away."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
