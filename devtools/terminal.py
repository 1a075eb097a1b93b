"""The words dev.py says, and how it fails."""

from __future__ import annotations

import sys


class DevError(RuntimeError):
    """A failure whose text is all the user needs; shown without a traceback."""


def say(text: str) -> None:
    """One line, at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
