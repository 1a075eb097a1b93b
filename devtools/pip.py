"""Virtual environments and pip, the only programs that the set-up runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from .terminal import DevError


def venv_python(folder: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make_venv(folder: Path) -> Path:
    """An empty virtual environment with pip; returns its interpreter. Raises DevError where it cannot be made."""
    if subprocess.run([sys.executable, "-m", "venv", str(folder)], stdin=subprocess.DEVNULL).returncode:
        raise DevError(f"{sys.executable} could not make a virtual environment: install python3-venv")
    return venv_python(folder)


def run_pip(python: Path, arguments: Sequence[str], *, temp: Path) -> None:
    """Run pip with its progress on the terminal, unpacking in `temp`. Raises DevError where it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temp))  # /tmp may be too small for torch
    if subprocess.run(command, stdin=subprocess.DEVNULL, env=os.environ | places).returncode:
        raise DevError(
            f"pip {arguments[0]} failed (see above): check the connection and the free disk, then run it again"
        )
