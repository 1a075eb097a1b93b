"""Starting a module of these tests in several processes, as accelerate's launcher does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from talkstream.devtools.server import link_folder

ROOT = Path(__file__).resolve().parents[2]


def launch(module: str, *arguments: str, folder: Path, processes: int = 2, seconds: float = 600) -> str:
    """Run talkstream.MODULE in processes of one thread each; returns what they printed.

    folder: for the link that makes the package importable. Fails where the command fails or takes too long.
    """
    packages = folder / "import"
    packages.mkdir()
    link_folder(packages / "talkstream", ROOT)
    environment = os.environ | {"PYTHONPATH": str(packages), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with subprocess.Popen(
        [*command, "-m", f"talkstream.{module}", *arguments],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher then ends its processes, which it could not if it were killed
            printed, _ = process.communicate()
            raise AssertionError(f"{module} ran past {seconds:.0f} s: {printed[-4000:]}") from None
    assert process.returncode == 0, printed[-4000:]
    return printed
