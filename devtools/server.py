"""A real ComfyUI with this pack: started on a free loopback port, stopped by its own process id."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .environment import Setup
from .host import ROOT
from .terminal import DevError, say

PACK_NAME = "ComfyUI-TalkStream"
BASE_FOLDERS = ("custom_nodes", "models", "input", "output", "user")
START_SECONDS = 300  # without a new line in its log
KEEPER = Path(__file__).with_name("keeper.py")
_LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


@dataclass(frozen=True)
class Server:
    """A running host: its address, its base directory and its log."""

    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]

    def request(
        self, path: str, body: bytes | None = None, *, content_type: str = "application/json"
    ) -> bytes:
        """GET, or POST where there is a body. Raises urllib's HTTPError for a refusal."""
        request = urllib.request.Request(self.url + path, data=body, headers={"Content-Type": content_type})
        with _LOOPBACK.open(request, timeout=60) as answer:
            return answer.read()

    def json(self, path: str, body: object = None) -> dict:
        """The same with JSON on both sides."""
        return json.loads(self.request(path, None if body is None else json.dumps(body).encode()))


@contextlib.contextmanager
def serve(setup: Setup, base: Path, *, port: int = 0, options: Sequence[str] = ()) -> Iterator[Server]:
    """Run the host with `base` as its own world until the block ends, whichever way it ends."""
    for name in BASE_FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    link = base / "custom_nodes" / PACK_NAME
    link_folder(link, ROOT)
    temp = tempfile.mkdtemp(prefix="temp-", dir=base)
    log = base / "comfyui.log"
    port = port or free_port()
    command = [*_command(setup, base, port), "--temp-directory", temp, *options]
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(KEEPER), *command],
                cwd=setup.host.path,
                env=_environment(setup),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                **_own_group(),
            )
        try:
            server = Server(f"http://127.0.0.1:{port}", base, log, process)
            _wait_until_ready(server)
            yield server
        finally:
            stop(process)
    finally:
        unlink_folder(link)
        shutil.rmtree(temp, ignore_errors=True)


def _command(setup: Setup, base: Path, port: int) -> list[str]:
    """Nothing of the host's own folders is used but its code and, where it is installed, its models (read only)."""
    database = (base / "user" / "comfyui.db").as_posix()
    command = [
        str(setup.python),
        "-s",
        str(setup.host.path / "main.py"),
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    command += [
        "--base-directory",
        str(base),
        "--database-url",
        f"sqlite:///{database}",
        "--disable-auto-launch",
    ]
    packs = sorted(path.name for path in (base / "custom_nodes").iterdir() if path.is_dir())
    command += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *packs]
    models = setup.host.path / "models"
    if setup.host.installed and models.is_dir():
        command += ["--models-directory", str(models)]
    return command if has_cuda(setup.python) else [*command, "--cpu"]


def has_cuda(python: Path) -> bool:
    """Whether torch in that interpreter can use CUDA; where no driver is found, torch is not even imported."""
    if shutil.which("nvidia-smi") is None:
        return False
    code = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 1)"
    return subprocess.run([str(python), "-c", code], stdin=subprocess.DEVNULL).returncode == 0


def _environment(setup: Setup) -> dict[str, str]:
    """Ours without other packages on the path; an installation of the user's gets no compiled files from us.

    OpenMP's threads sleep while they wait unless the user said otherwise: spinning ones take the processor from each
    other where something else is running, and every small operation then costs a time slice.
    """
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {"OMP_WAIT_POLICY": "PASSIVE"} | kept | {"PYTHONUNBUFFERED": "1"} | bytecode_rule(setup)


def bytecode_rule(setup: Setup) -> dict[str, str]:
    """Variables that keep Python from writing into a ComfyUI that is not our copy."""
    return {"PYTHONDONTWRITEBYTECODE": "1"} if setup.host.installed else {}


def _own_group() -> dict[str, object]:
    """A process group of its own: Ctrl-C reaches us first, and its children can be stopped with it."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def stop(process: subprocess.Popen[bytes], *, patience_seconds: float = 10.0) -> None:
    """End a process started by `serve` and its children: asked first, then forced."""
    if sys.platform == "win32":
        if process.poll() is None:
            subprocess.run(["taskkill", "/PID", str(process.pid), "/T", "/F"], capture_output=True)
    else:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_seconds)
    process.wait()
    process.stdin.close()


def _wait_until_ready(server: Server) -> None:
    """Until it answers. Raises DevError where it ends, or where its log stands still for too long."""
    started = told = moved = time.monotonic()
    size = 0
    while True:
        if server.process.poll() is not None:
            raise DevError(
                f"ComfyUI ended with code {server.process.returncode}; its last lines:\n{tail(server.log)}"
            )
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            server.request("/system_stats")
            return
        now = time.monotonic()
        if server.log.stat().st_size != size:
            moved, size = now, server.log.stat().st_size
        if now - moved > START_SECONDS:
            raise DevError(f"ComfyUI did nothing for {START_SECONDS} s; its last lines:\n{tail(server.log)}")
        if now - told > 5:
            say(f"  ComfyUI is starting ({now - started:.0f} s)")
            told = now
        time.sleep(0.2)


def tail(log: Path, lines: int = 30) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text("utf-8", errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def link_folder(link: Path, target: Path) -> None:
    """A directory link that needs no special rights: a symlink, on Windows a junction. An old link is replaced."""
    unlink_folder(link)
    link.parent.mkdir(parents=True, exist_ok=True)
    if sys.platform == "win32":
        subprocess.run(
            ["cmd", "/c", "mklink", "/J", str(link), str(target)], check=True, stdout=subprocess.DEVNULL
        )
    else:
        link.symlink_to(target, target_is_directory=True)


def unlink_folder(link: Path) -> None:
    """Remove the link, never what it points to. Raises DevError for a real folder."""
    if link.is_symlink():
        link.unlink()
    elif sys.platform == "win32" and os.path.lexists(link):
        os.rmdir(link)  # a junction goes; a real folder that holds anything stays and raises OSError
    elif link.exists():
        raise DevError(f"{link} is a real folder, not our link: move it away")
