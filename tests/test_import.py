"""The package as others meet it: its import, its metadata, its console command's target."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROBE = """
import inspect, json, sys
before, path = set(sys.modules), list(sys.path)
import talkstream
print(json.dumps({
    "new": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
    "path_kept": sys.path == path,
    "web": talkstream.WEB_DIRECTORY,
    "entry_point": inspect.iscoroutinefunction(talkstream.comfy_entrypoint),
    "v1": hasattr(talkstream, "NODE_CLASS_MAPPINGS"),
}))
"""


def test_importing_the_root_package_costs_and_prints_nothing(tmp_path):
    (tmp_path / "talkstream").symlink_to(ROOT, target_is_directory=True)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}){PROBE}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    third_party = [name for name in seen["new"] if name not in sys.stdlib_module_names]
    assert third_party == ["talkstream"]
    assert (seen["path_kept"], seen["entry_point"], seen["v1"]) == (True, True, False)
    assert (ROOT / seen["web"]).resolve() == ROOT / "web"


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="tomllib needs Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_pyproject_and_requirements_name_the_same_packages(project):
    lines = (ROOT / "requirements.txt").read_text("utf-8").split()
    assert project["project"]["dependencies"] == lines
    assert all(">=" in line for line in lines)
    assert not any(line.startswith(("torch", "numpy")) for line in lines)


def test_every_package_folder_is_installed(project):
    """A folder missing from the list would be missing from every installation that is not editable."""
    skipped = {"tests", "build", "dist"}
    folders = {path.parent.relative_to(ROOT) for path in ROOT.rglob("__init__.py")}
    ours = [
        folder for folder in folders if not skipped.intersection(folder.parts) and ".venv" not in folder.parts
    ]
    names = {".".join(["talkstream", *folder.parts]) for folder in ours}
    assert set(project["tool"]["setuptools"]["packages"]) == names


def test_host_version_is_the_one_that_dev_py_brings(project):
    from talkstream.devtools.host import HOST_VERSION

    assert project["tool"]["comfy"]["requires-comfyui"] == f">={HOST_VERSION}"
    assert "web" not in project["tool"]["comfy"]
