"""What the browser tests need besides Python: node, a Chromium of the system, and playwright-core to drive it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .host import cache_folder
from .terminal import say

PLAYWRIGHT = "playwright-core@1.65.1"  # the driver alone: it brings no browser
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_SECONDS = 300


@dataclass(frozen=True)
class Browser:
    """Programs that play a user. playwright: the module that node imports."""

    node: str
    chromium: str
    playwright: Path


def driver_folder() -> Path:
    """Where `dev.py test` keeps the driver."""
    return cache_folder() / PLAYWRIGHT.replace("@", "-")


def find_browser() -> Browser | str:
    """The programs, or a sentence that says which one is missing."""
    node = shutil.which("node")
    if node is None:
        return "no node: install Node.js 18 or newer"
    chromium = os.environ.get("TALKSTREAM_CHROMIUM") or next(
        (found for name in CHROMIUM_NAMES if (found := shutil.which(name))), None
    )
    if chromium is None:
        return "no Chromium: install one, or name it in TALKSTREAM_CHROMIUM"
    folder = Path(os.environ.get("TALKSTREAM_PLAYWRIGHT") or driver_folder())
    playwright = folder / "node_modules" / "playwright-core" / "index.mjs"
    if not playwright.is_file():
        return f"no playwright-core in {folder}: `python dev.py test` installs it where npm is found"
    return Browser(node, chromium, playwright)


def bring_driver() -> None:
    """Install playwright-core once, where there is a browser to drive and npm to fetch it; never fails a run."""
    npm, missing = shutil.which("npm"), find_browser()
    if npm is None or not isinstance(missing, str) or not missing.startswith("no playwright-core"):
        return
    folder = driver_folder()
    folder.mkdir(parents=True, exist_ok=True)
    say(f"Installing {PLAYWRIGHT} for the browser tests")
    command = [npm, "install", "--prefix", str(folder), "--no-save", "--no-audit", "--no-fund"]
    try:
        subprocess.run(
            [*command, "--ignore-scripts", PLAYWRIGHT],
            check=True,
            timeout=INSTALL_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        say(f"The browser tests will be skipped: {error}")
