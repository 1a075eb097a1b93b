"""Runs a command, and ends it when whoever started this is gone: python keeper.py COMMAND...

The starter holds the other end of our standard input. However it ends, even by a kill that nothing can catch, the
pipe closes, and what we started does not stay behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence


def main(command: Sequence[str]) -> int:
    """Run the command to its end; returns its exit status."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with_input, args=(process.pid,), daemon=True).start()
    return process.wait()


def _end_with_input(child: int) -> None:
    while os.read(0, 1):  # not sys.stdin: a buffered reader would abort the interpreter's own end
        pass
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/PID", str(child), "/T", "/F"], capture_output=True)
    else:
        os.killpg(0, signal.SIGKILL)  # our own group: this process, the command and its children


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
