"""What every test needs: the pack under its import name, fixed seeds, one thread, goldens, a host.

The root `__init__.py` never runs here: `talkstream` is an empty module whose path is the repository, so
relative imports resolve as they do inside ComfyUI. Helpers beside the tests are importable as
`talkstream.tests.<name>`.
"""

from __future__ import annotations

import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from talkstream.devtools.environment import Setup
    from talkstream.devtools.server import Server

ROOT = Path(__file__).resolve().parents[1]


def alias_package(name: str = "talkstream") -> None:
    """Make the repository importable as `name` without its parent or itself being on sys.path."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]
    package = types.ModuleType(name)
    package.__path__ = [str(ROOT)]
    sys.modules[name] = package


alias_package()


def pytest_addoption(parser):
    parser.addoption("--torch-threads", type=int, default=1, help="CPU threads torch may use (default 1)")


def pytest_configure(config):
    os.environ.setdefault("OMP_NUM_THREADS", str(config.getoption("--torch-threads")))


def pytest_collection_modifyitems(items):
    """The host and what it imports warn freely: there a warning is not our error."""
    for item in items:
        if item.get_closest_marker("host"):
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session", autouse=True)
def torch_threads(request) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(request.config.getoption("--torch-threads"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Tests that draw from the global generator draw the same numbers every time."""
    import torch

    torch.manual_seed(20260)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """Folder of the golden tensors; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("TALKSTREAM_GOLDENS") or ROOT.parent / "shared" / "goldens")
    if not folder.is_dir():
        pytest.skip(f"no goldens at {folder}: set TALKSTREAM_GOLDENS to the folder of *_tiny.safetensors")
    return folder


@pytest.fixture(scope="session")
def golden_file(goldens) -> Callable[[str], Path]:
    """golden_file("livetalk_tiny.safetensors") -> its path, or a skip that says what is missing."""

    def find(name: str) -> Path:
        path = goldens / name
        if not path.is_file():
            pytest.skip(f"no {name} in {goldens}")
        return path

    return find


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """Root of a ComfyUI checkout, from COMFYUI_PATH; host tests are skipped without one."""
    value = os.environ.get("COMFYUI_PATH")
    if not value:
        pytest.skip("no ComfyUI: set COMFYUI_PATH to a checkout, or run `python dev.py test`")
    path = Path(value).resolve()
    if not (path / "main.py").is_file():
        raise ValueError(f"COMFYUI_PATH={value} has no main.py: point it at ComfyUI's own folder")
    return path


@pytest.fixture(scope="session")
def host(comfyui_path, tmp_path_factory) -> Path:
    """ComfyUI importable in this process, on the CPU, with its folders in a temporary base directory."""
    from talkstream.tests.host_process import import_host

    import_host(comfyui_path, tmp_path_factory.mktemp("comfyui_base"), cpu=True)
    return comfyui_path


@pytest.fixture(scope="session")
def host_base(tmp_path_factory) -> Path:
    """The server's base directory; what a fixture puts there before `host_server` starts is served."""
    base = tmp_path_factory.mktemp("host_server")
    pack = base / "custom_nodes" / "test_stand_ins"
    pack.mkdir(parents=True)
    shutil.copyfile(ROOT / "tests" / "nodes" / "stand_ins.py", pack / "__init__.py")
    return base


@pytest.fixture(scope="session")
def host_setup(comfyui_path) -> Setup:
    """What `devtools.server.serve` needs to run the host with this interpreter."""
    from talkstream.devtools.environment import Setup
    from talkstream.devtools.host import read_host

    return Setup(Path(sys.executable), read_host(comfyui_path, installed=False))


@pytest.fixture(scope="session")
def host_server(host_setup, host_base) -> Iterator[Server]:
    """A real ComfyUI with this pack on a free port, started once for all tests that talk to it over HTTP."""
    from talkstream.devtools.server import serve

    with serve(host_setup, host_base) as server:
        yield server


@pytest.fixture(scope="session")
def object_info(host_server) -> dict:
    """Every node definition of the running host."""
    return host_server.json("/object_info")


@pytest.fixture(scope="session")
def model_files(host_server) -> Path:
    """Small random models in the running host's folders, under the names that graphs load; its models folder."""
    from talkstream.tests.nodes.model_files import write_models

    models = host_server.base / "models"
    write_models(models)
    return models
