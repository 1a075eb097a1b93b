"""Who may import whom, read from the source and compared with one table."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ENGINE = frozenset({"networks", "audio", "samplers", "media", "model_loaders", "streaming"})
HOST_ROOTS = frozenset(
    {
        "nodes",
        "server",
        "execution",
        "folder_paths",
        "node_helpers",
        "latent_preview",
        "protocol",
        "app",
        "utils",
        "comfyui_version",
        "main",
    }
)


@dataclass(frozen=True)
class Rule:
    """Our folders and third-party roots that a folder may import; the standard library is always allowed."""

    ours: frozenset[str]
    third_party: frozenset[str]
    host: str = "none"  # "none" | "comfy_api" | "all"


def rule(ours: str = "", third_party: str = "", host: str = "none") -> Rule:
    return Rule(frozenset(ours.split()), frozenset(third_party.split()), host)


ALL_ENGINE = " ".join(sorted(ENGINE))
TABLE = {
    "networks": rule("", "torch einops numpy"),
    "audio": rule("", "torch numpy librosa"),
    "samplers": rule("", "torch numpy"),
    "media": rule("", "torch numpy av PIL"),
    "model_loaders": rule("networks", "torch numpy safetensors"),
    "streaming": rule("networks audio samplers", "torch numpy"),
    "training": rule(ALL_ENGINE, "torch numpy einops safetensors librosa accelerate yaml PIL av"),
    "benchmarks": rule(
        f"{ALL_ENGINE} training cli devtools tests", "torch numpy einops safetensors librosa av PIL"
    ),
    "nodes": rule(f"{ALL_ENGINE} nodes/host", "torch numpy typing_extensions", host="comfy_api"),
    "nodes/host": rule("networks model_loaders streaming audio nodes", "torch numpy PIL aiohttp", host="all"),
    "cli.py": rule(ALL_ENGINE, "torch numpy av PIL"),
    "dev.py": rule("", "devtools"),
    "devtools": rule(),
    "__init__.py": rule("nodes"),
}


@dataclass(frozen=True)
class Import:
    line: int
    target: str  # "networks", "nodes/host" for ours; the root module otherwise
    ours: bool


def owner(path: Path) -> str:
    """networks/x.py -> networks, nodes/host/y.py -> nodes/host, dev.py -> dev.py."""
    parts = path.parts
    if len(parts) == 1:
        return parts[0]
    return "nodes/host" if parts[:2] == ("nodes", "host") else parts[0]


def inside(parts: list[str]) -> str:
    """Folder of the table that a module path inside the pack belongs to."""
    if parts[:2] == ["nodes", "host"]:
        return "nodes/host"
    return parts[0] if parts else "__init__.py"


def imports(source: str, path: Path) -> Iterator[Import]:
    """Every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name.split(".")[0], ours=False)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(node.lineno, (node.module or "").split(".")[0], ours=False)
        elif isinstance(node, ast.ImportFrom):
            base = list(path.parent.parts)
            base = base[: len(base) - (node.level - 1)]
            module = node.module.split(".") if node.module else []
            for alias in node.names:
                yield Import(node.lineno, inside([*base, *module] or [alias.name]), ours=True)


def is_host(root: str) -> bool:
    return root in HOST_ROOTS or root == "comfy" or root.startswith("comfy_")


def violations(source: str, path: Path) -> list[str]:
    """One sentence for each import that the table forbids; path is relative to the repository."""
    folder = owner(path)
    allowed = TABLE.get(folder)
    if allowed is None:
        return [f"{path}: {folder} is not in the import table of tests/test_layering.py"]
    found = []
    for item in imports(source, path):
        where = f"{path}:{item.line}"
        if item.ours:
            if item.target != folder and item.target not in allowed.ours:
                found.append(f"{where}: {folder} must not import {item.target}")
        elif item.target == "talkstream":
            found.append(f"{where}: import our own code relatively")
        elif is_host(item.target):
            if allowed.host == "none" or (allowed.host == "comfy_api" and item.target != "comfy_api"):
                found.append(f"{where}: {folder} must not import ComfyUI's {item.target}")
        elif item.target not in sys.stdlib_module_names and item.target not in allowed.third_party:
            found.append(f"{where}: {folder} must not import {item.target}")
    return found


def sources() -> list[Path]:
    skipped = {"tests", "docs", "build", "dist"}
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    return sorted(
        p for p in found if p.parts[0] not in skipped and not any(x.startswith(".") for x in p.parts)
    )


def test_imports_follow_the_table():
    found = [line for path in sources() for line in violations((ROOT / path).read_text("utf-8"), path)]
    assert found == []


def test_root_package_imports_nothing_of_ours_when_it_is_loaded():
    """ComfyUI pays for top-level imports of the root file at every start."""
    tree = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    roots = {(getattr(node, "module", None) or node.names[0].name).split(".")[0] for node in top}
    assert roots <= {"__future__", "logging", "typing"}


@pytest.mark.parametrize(
    ("path", "source", "word"),
    [
        ("networks/x.py", "import comfy.ops", "comfy"),
        ("streaming/x.py", "def f():\n    import folder_paths", "folder_paths"),
        ("networks/x.py", "from ..streaming.session import StreamSession", "streaming"),
        ("networks/x.py", "from .. import streaming", "streaming"),
        ("audio/x.py", "from ..networks import rope", "networks"),
        ("training/world/x.py", "from ...nodes.load import LoadStudent", "nodes"),
        ("samplers/x.py", "import librosa", "librosa"),
        ("streaming/x.py", "from talkstream.networks import rope", "relatively"),
        ("nodes/load.py", "import comfy.utils", "comfy"),
        ("nodes/load.py", "import nodes", "nodes"),
        ("nodes/load.py", "from ..training.train import main", "training"),
        ("devtools/x.py", "import torch", "torch"),
        ("helpers/x.py", "import math", "helpers"),
    ],
)
def test_planted_violations_are_found(path, source, word):
    found = violations(source, Path(path))
    assert len(found) == 1
    assert word in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("networks/x.py", "import torch\nfrom .rope import angles\nfrom . import rope"),
        (
            "training/world/x.py",
            "from ...audio import rates\nfrom ..losses import mse\nfrom .face import Pose",
        ),
        (
            "nodes/load.py",
            "from comfy_api.latest import io\nfrom .host import memory\nfrom ..streaming import spec",
        ),
        ("nodes/host/memory.py", "import comfy.model_management\nfrom ...networks.wan import WanModel"),
        ("__init__.py", "async def f():\n    from .nodes import TalkStreamExtension"),
    ],
)
def test_what_the_table_allows_passes(path, source):
    assert violations(source, Path(path)) == []
