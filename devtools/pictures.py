"""The pictures of the workflows: the graph on ComfyUI's canvas, as .png for the README and .jpg for the templates.

Command: python dev.py run -m talkstream.devtools.pictures [talkstream_quickstart talkstream_lipsync ...]
Workflows whose models ship are run first and show what they made. Needs a Chromium, like the browser tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .browser import Browser, bring_driver, find_browser
from .environment import Setup
from .host import ROOT, read_host
from .server import Server, serve
from .terminal import say

WORKFLOWS = ROOT / "workflows"
RUN = ("talkstream_quickstart", "talkstream_lipsync")
DRIVER = Path(__file__).with_suffix(".mjs")
PATIENCE_SECONDS = 400
SCALE = 0.75


def take(browser: Browser, server: Server, name: str) -> None:
    """Write both pictures of one workflow. Raises CalledProcessError where the page or the run failed."""
    job = server.base / "job.json"
    job.write_text(
        json.dumps({
            "playwright": str(browser.playwright), "chromium": browser.chromium, "url": server.url, "scale": SCALE,
            "graph": json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8")), "run": name in RUN,
            "pictures": [str(WORKFLOWS / f"{name}.{kind}") for kind in ("png", "jpg")],
            "patience": PATIENCE_SECONDS * 1000,
        }),
        "utf-8",
    )  # fmt: skip
    subprocess.run(
        [browser.node, str(DRIVER), str(job)],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=3 * PATIENCE_SECONDS,
    )
    say(str(WORKFLOWS / f"{name}.png"))


def main() -> None:
    """Command line."""
    names = sys.argv[1:] or list(RUN)
    bring_driver()
    browser = find_browser()
    if isinstance(browser, str):
        sys.exit(browser)
    setup = Setup(Path(sys.executable), read_host(Path(os.environ["COMFYUI_PATH"]), installed=False))
    with tempfile.TemporaryDirectory(prefix="talkstream-") as name, serve(setup, Path(name)) as server:
        for workflow in names:
            take(browser, server, workflow)


if __name__ == "__main__":
    main()
