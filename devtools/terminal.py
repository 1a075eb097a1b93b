"""The words dev.py says, and how it fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class DevError(RuntimeError):
    """A failure whose text is all the user needs; shown without a traceback."""


def say(text: str) -> None:
    """One line, at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_pip(python: Path, arguments: Sequence[str]) -> None:
    """Run pip with its progress on the terminal. Raises DevError where it fails."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        raise DevError(
            f"pip {arguments[0]} failed (see above): check the connection and the free disk, then run it again"
        )
