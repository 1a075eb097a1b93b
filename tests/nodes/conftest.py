"""A real ComfyUI server for the tests that talk to it over HTTP, started once for all of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from talkstream.devtools.environment import Setup
from talkstream.devtools.host import read_host
from talkstream.devtools.server import Server, serve


@pytest.fixture(scope="session")
def host_base(tmp_path_factory) -> Path:
    """The server's base directory, empty; what a test module puts there before `host_server` starts is served."""
    base = tmp_path_factory.mktemp("host_server")
    (base / "custom_nodes").mkdir()
    return base


@pytest.fixture(scope="session")
def host_server(comfyui_path, host_base) -> Iterator[Server]:
    """ComfyUI with this pack on a free port, on the CPU unless CUDA is there; its log is `host_server.log`."""
    setup = Setup(Path(sys.executable), read_host(comfyui_path, installed=False))
    with serve(setup, host_base) as server:
        yield server
