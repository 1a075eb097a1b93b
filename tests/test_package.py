"""What the registry packs: the tracked files without .comfyignore's, complete for a user and nothing besides."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
USED_BY_THE_HOST = {"nodes", "web", "locales", "workflows", "assets"}
ENGINE = {"audio", "media", "model_loaders", "networks", "samplers", "streaming"}
FILES = {
    "__init__.py",
    "cli.py",
    "pyproject.toml",
    "requirements.txt",
    "README.md",
    "LICENSE",
    ".comfyignore",
}


@pytest.fixture(scope="module")
def packed() -> list[str]:
    """Paths in the zip. Every line of .comfyignore names a folder (with a slash) or a file at the top."""
    try:
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"not a git checkout: {error}")
    ignored = (ROOT / ".comfyignore").read_text("utf-8").split()
    paths = [path for path in tracked.decode().split("\0") if path and (ROOT / path).exists()]
    return [path for path in paths if not any(path == rule or path.startswith(rule) for rule in ignored)]


def test_users_get_what_they_need_and_no_more(packed):
    assert {path.split("/")[0] for path in packed} == USED_BY_THE_HOST | ENGINE | FILES


def test_packed_code_imports_only_packed_code(packed):
    """A relative import that leads to an ignored folder would fail on the user's machine."""
    folders = {path.split("/")[0] for path in packed}
    for path in (path for path in packed if path.endswith(".py")):
        depth = path.count("/")
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level == depth + 1 and node.module:
                top = node.module.split(".")[0]
                assert top in folders or f"{top}.py" in packed, (path, node.module)


def test_packed_code_does_nothing_that_the_registry_flags(packed):
    """No eval or exec, no subprocess, no change of the environment, no download."""
    flagged = re.compile(
        r"\b(eval|exec)\(|\bsubprocess\b|os\.system|os\.environ\[[^\]]+\] *=|\b(requests|urllib\.request|urlopen)\b"
    )
    found = [
        (path, line)
        for path in packed
        if path.endswith((".py", ".js"))
        for line in (ROOT / path).read_text("utf-8").splitlines()
        if flagged.search(line) and ".eval()" not in line
    ]
    assert found == []


def test_both_lists_of_dependencies_are_one():
    tomllib = pytest.importorskip("tomllib", reason=f"Python {sys.version.split()[0]} has no tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dependencies"] == (ROOT / "requirements.txt").read_text("utf-8").split()
    comfy = project["tool"]["comfy"]
    assert comfy["PublisherId"] == "talkstream"
    assert comfy["requires-comfyui"] == ">=0.30.0"
    assert "web" not in comfy  # with WEB_DIRECTORY as well every page module would be loaded twice
