"""dev.py's commands."""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from .browser import bring_driver
from .demo import LIPSYNC, QUICKSTART, run_demo
from .environment import Setup, prepare
from .host import ROOT, cache_folder
from .server import PACK_NAME, bytecode_rule, link_folder, serve
from .terminal import DevError, say

PASSING_ON = ("test", "run")


def parser() -> argparse.ArgumentParser:
    """The command line of dev.py."""
    top = argparse.ArgumentParser(prog="dev.py", description="TalkStream's demo, tests and development host.")
    commands = top.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="make a talking video through ComfyUI's HTTP API")
    demo.add_argument("--image", type=Path, help="portrait (default: the workflow's example)")
    demo.add_argument("--audio", type=Path, help="voice (default: the workflow's example)")
    demo.add_argument("--lipsync", action="store_true", help="give the example video another voice instead")
    demo.add_argument("--out", type=Path, default=Path("talkstream_demo.mp4"), help="the MP4 to write")
    ui = commands.add_parser("ui", help="start ComfyUI with this pack and print its address")
    ui.add_argument("--port", type=int, default=0, help="port on the loopback (default: a free one)")
    commands.add_parser("test", help="ruff, then pytest; further arguments go to pytest")
    commands.add_parser("run", help="run Python in the environment; `talkstream` is importable")
    commands.add_parser("setup", help="prepare the environment that the other commands share")
    return top


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The chosen command and its options; what follows test and run is passed on as it stands."""
    if arguments and arguments[0] in PASSING_ON:
        return argparse.Namespace(command=arguments[0], arguments=list(arguments[1:]))
    return parser().parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    choice = parse(arguments)
    started = time.monotonic()
    try:
        setup = prepare()
        say(
            f"ComfyUI {setup.host.version} at {setup.host.path}, {setup.python} ({time.monotonic() - started:.1f} s)"
        )
        return _run(choice, setup)
    except DevError as error:
        say(f"dev.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("Stopped")
        return 130


def _run(choice: argparse.Namespace, setup: Setup) -> int:
    if choice.command == "demo":
        api = LIPSYNC if choice.lipsync else QUICKSTART
        return demo(setup, api, image=choice.image, audio=choice.audio, out=choice.out)
    if choice.command == "ui":
        return ui(setup, port=choice.port)
    if choice.command == "test":
        return test(setup, choice.arguments)
    if choice.command == "run":
        return python(setup, choice.arguments)
    return 0


def demo(setup: Setup, api: Path, *, image: Path | None, audio: Path | None, out: Path) -> int:
    """Start ComfyUI, run a shipped workflow, print the path of the video."""
    if not api.is_file():
        raise DevError(f"{api} is missing: restore it from the repository")
    if image and api == LIPSYNC:
        raise DevError(
            "--lipsync starts from the example video and takes no --image: leave one of the two out"
        )
    with tempfile.TemporaryDirectory(prefix="talkstream-") as name:
        say("Starting ComfyUI")
        with serve(setup, Path(name)) as server:
            say(f"ComfyUI answers at {server.url}; running {api.name}")
            made = run_demo(server, api, image=image, audio=audio, out=out.absolute())
    say(str(made))
    return 0


def ui(setup: Setup, *, port: int) -> int:
    """ComfyUI with the pack until Ctrl-C; its input, output and saved workflows stay in the cache folder."""
    base = cache_folder() / f"ui-{_clone_key()}"
    with serve(setup, base, port=port) as server:
        say(f"\n{server.url}\n\nTemplates > {PACK_NAME} > talkstream_quickstart; output in {base / 'output'}")
        say("Ctrl-C stops it.")
        return server.process.wait()


def test(setup: Setup, arguments: Sequence[str]) -> int:
    """Lint and tests, both in any case; the host tests get the host through COMFYUI_PATH."""
    bring_driver()
    lint = python(setup, ["-m", "ruff", "check", "."])
    tests = python(setup, ["-m", "pytest", *arguments])
    if lint:
        say("ruff found something: see above")
    return tests or lint


def python(setup: Setup, arguments: Sequence[str]) -> int:
    """Run the environment's interpreter in the repository; `talkstream` is a link on PYTHONPATH."""
    packages = cache_folder() / f"import-{_clone_key()}"
    if not (packages / "talkstream" / "pyproject.toml").is_file():
        link_folder(packages / "talkstream", ROOT)
    environment = os.environ | {"PYTHONPATH": str(packages), "COMFYUI_PATH": str(setup.host.path)}
    environment |= bytecode_rule(setup)
    return subprocess.run([str(setup.python), "-s", *arguments], cwd=ROOT, env=environment).returncode


def _clone_key() -> str:
    return hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C, so that `finally` blocks stop what was started."""
    sys.exit(143)
