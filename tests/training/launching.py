"""Starting a module of these tests in several processes, as accelerate's launcher does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from talkstream.devtools.server import link_folder

ROOT = Path(__file__).resolve().parents[2]


def launch(module: str, *arguments: str, folder: Path, processes: int = 2, seconds: float = 120) -> str:
    """Run talkstream.MODULE in processes of one thread each; returns what they printed.

    folder: for the link that makes the package importable. Fails where the command fails.
    """
    packages = folder / "import"
    packages.mkdir()
    link_folder(packages / "talkstream", ROOT)
    environment = os.environ | {"PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run(
        [*command, "-m", f"talkstream.{module}", *arguments],
        env=environment, capture_output=True, text=True, timeout=seconds, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout + done.stderr
