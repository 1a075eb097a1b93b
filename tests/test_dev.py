"""dev.py's parts, offline: arguments, cache key, host, archive, locks, links, a process and its end."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import time
import urllib.error
from pathlib import Path

import pytest

from talkstream.devtools import commands, demo, environment, host, server
from talkstream.devtools.terminal import DevError

PYTHON = Path(sys.executable)


@pytest.mark.parametrize(
    "passed",
    [[], ["-k", "golden and livetalk", "-x"], ["tests/test_dev.py", "--", "-h"], ["--verbose", "-m", "host"]],
)
@pytest.mark.parametrize("command", ["test", "run"])
def test_arguments_after_test_and_run_are_passed_on_untouched(command, passed):
    """argparse itself refuses `test -k x` as an unknown option."""
    choice = commands.parse([command, *passed])
    assert (choice.command, choice.arguments) == (command, passed)


def test_demo_arguments_have_defaults():
    choice = commands.parse(["demo", "--image", "a.png"])
    assert (choice.image, choice.audio, choice.out) == (Path("a.png"), None, Path("talkstream_demo.mp4"))
    assert not choice.lipsync


def test_the_lipsync_demo_takes_another_voice_but_no_picture():
    assert commands.parse(["demo", "--lipsync", "--audio", "a.wav"]).lipsync
    graph = demo.replace_example(
        json.loads(demo.LIPSYNC.read_text("utf-8")), 1, "LoadAudio", {"audio": "a.wav"}
    )
    classes = [node["class_type"] for node in graph.values()]
    assert "LoadAudio" in classes and demo.EXAMPLES_CLASS not in classes
    with pytest.raises(DevError, match="takes no --image"):
        commands.demo(None, demo.LIPSYNC, image=Path("a.png"), audio=None, out=Path("b.mp4"))


def test_environment_key_changes_with_every_ingredient(monkeypatch):
    def key() -> str:
        return environment.environment_key("einops>=0.7\n", "aiohttp\n")

    keys = {key(), environment.environment_key("einops>=0.8\n", "aiohttp\n")}
    keys.add(environment.environment_key("einops>=0.7\n", "aiohttp>=4\n"))
    monkeypatch.setattr(environment, "TORCH_PINS", ("torch==9.9.9",))
    keys.add(key())
    monkeypatch.setattr(environment, "TOOLS", ())
    keys.add(key())
    monkeypatch.setattr(environment.platform, "machine", lambda: "another")
    keys.add(key())
    assert len(keys) == 6
    assert key() == key()


def make_host(path: Path, version: str = "0.30.0") -> Path:
    path.mkdir(parents=True)
    (path / "main.py").write_text("")
    (path / "requirements.txt").write_text("aiohttp\n")
    (path / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return path


@pytest.mark.parametrize("version", ["0.30.0", "0.31.2", "1.0.0"])
def test_new_enough_hosts_are_taken(tmp_path, version):
    assert host.read_host(make_host(tmp_path / "h", version), installed=True).version == version


@pytest.mark.parametrize("version", ["0.29.9", "0.3.64", "0.9.2"])
def test_old_host_is_refused_with_both_versions(tmp_path, version):
    with pytest.raises(DevError, match=f"{version}.*0.30.0 or newer"):
        host.read_host(make_host(tmp_path / "h", version), installed=True)


def test_a_folder_that_is_not_comfyui_is_refused(tmp_path):
    with pytest.raises(DevError, match="correct COMFYUI_PATH"):
        host.read_host(tmp_path, installed=True)


def test_host_comes_from_the_variable_then_from_the_folder_above(tmp_path, monkeypatch):
    above, named = make_host(tmp_path / "above"), make_host(tmp_path / "named", "0.31.0")
    clone = above / "custom_nodes" / "ComfyUI-TalkStream"
    clone.mkdir(parents=True)
    monkeypatch.setenv("COMFYUI_PATH", str(named))
    assert host.installed_host(clone).path == named.resolve()
    monkeypatch.delenv("COMFYUI_PATH")
    assert host.installed_host(clone).path == above
    assert host.installed_host(tmp_path / "elsewhere") is None


def write_archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(name)
            tar.addfile(entry, io.BytesIO(name.encode()))
    return path


def test_only_the_host_is_unpacked(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", ["p-1/setup.py", "p-1/vendor/ComfyUI/comfy/ops.py"])
    found = host.unpack_host(archive, tmp_path)
    assert found == tmp_path / "p-1" / "vendor" / "ComfyUI"
    assert (found / "comfy" / "ops.py").read_text() == "p-1/vendor/ComfyUI/comfy/ops.py"
    assert not (tmp_path / "p-1" / "setup.py").exists()


def test_archive_with_a_climbing_path_is_refused(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", ["p-1/vendor/ComfyUI/../../../../evil.py"])
    with pytest.raises(DevError, match="unsafe path"):
        host.unpack_host(archive, tmp_path / "in")
    assert not (tmp_path / "evil.py").exists()


def test_archive_without_the_host_is_refused(tmp_path):
    with pytest.raises(DevError, match="no vendor/ComfyUI"):
        host.unpack_host(write_archive(tmp_path / "a.tar.gz", ["p-1/setup.py"]), tmp_path)


def test_wrong_hash_names_both(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"other")
    found = hashlib.sha256(b"other").hexdigest()
    host.check_sha256(path, found)
    with pytest.raises(DevError, match=f"{found}, expected {host.HOST_SHA256}"):
        host.check_sha256(path, host.HOST_SHA256)


def test_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("TALKSTREAM_CACHE", str(tmp_path / "c"))
    assert host.cache_folder() == (tmp_path / "c").resolve()
    monkeypatch.delenv("TALKSTREAM_CACHE")
    assert host.cache_folder().name == "talkstream"


def test_too_little_disk_is_said_before_anything_is_made(tmp_path, monkeypatch):
    usage = environment.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _path: usage._replace(free=2_000_000_000))
    with pytest.raises(DevError, match=r"2\.0 GB free, \d+ are needed"):
        environment.check_disk(tmp_path)


def test_an_interrupted_environment_is_made_again_and_a_finished_one_is_kept(tmp_path, monkeypatch):
    """A half environment looks like a whole one: only the ready file, written last, tells them apart."""
    made = []

    def fake_pip(python: Path, arguments, *, temp: Path) -> None:
        made.append(arguments[0])
        if len(made) == 1:
            raise DevError("the connection broke")

    monkeypatch.setattr(environment, "run_pip", fake_pip)
    monkeypatch.setattr(environment, "check_disk", lambda _folder: None)
    monkeypatch.setattr(environment, "make_venv", Path.mkdir)
    monkeypatch.setenv("TALKSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMFYUI_PATH", str(make_host(tmp_path / "host")))
    monkeypatch.delenv("TALKSTREAM_PYTHON", raising=False)
    with pytest.raises(DevError, match="broke"):
        environment.prepare()
    (tmp_path / "cache" / "pip-killed").mkdir()
    first = environment.prepare()
    assert environment.prepare() == first
    assert made == ["install", "install"]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == [
        first.python.parts[-3],
        "setup.lock",
    ]


def test_given_interpreter_is_used_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("TALKSTREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COMFYUI_PATH", str(make_host(tmp_path / "host")))
    monkeypatch.setenv("TALKSTREAM_PYTHON", sys.executable)
    assert environment.prepare().python == PYTHON
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["setup.lock"]


def test_lock_waits_for_the_process_that_holds_it(tmp_path):
    path = tmp_path / "setup.lock"
    code = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from devtools.environment import locked\n"
        "with locked(Path(sys.argv[2])):\n    print('held', flush=True); time.sleep(1)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(host.ROOT), str(path)], stdout=subprocess.PIPE)
    assert other.stdout.readline().strip() == b"held"
    started = time.monotonic()
    with environment.locked(path):
        waited = time.monotonic() - started
    other.stdout.close()
    assert other.wait() == 0
    assert 0.5 < waited < 10


def test_links_are_replaced_and_removed_without_their_target(tmp_path):
    target, link = tmp_path / "pack", tmp_path / "custom_nodes" / "pack"
    target.mkdir()
    (target / "kept.py").write_text("kept")
    for _ in range(2):
        server.link_folder(link, target)
        assert (link / "kept.py").read_text() == "kept"
    server.unlink_folder(link)
    server.unlink_folder(link)
    assert not link.exists()
    assert (target / "kept.py").read_text() == "kept"


def test_a_real_folder_is_never_removed_as_a_link(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "work.py").write_text("work")
    with pytest.raises((DevError, OSError)):
        server.unlink_folder(tmp_path / "pack")
    assert (tmp_path / "pack" / "work.py").read_text() == "work"


FAKE_HOST = """
import http.server, subprocess, sys
from pathlib import Path
port = int(sys.argv[sys.argv.index("--port") + 1])
base = Path(sys.argv[sys.argv.index("--base-directory") + 1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
(base / "child.pid").write_text(str(child.pid))
print("pack:", sorted(p.name for p in (base / "custom_nodes").iterdir()), flush=True)
http.server.HTTPServer(("127.0.0.1", port), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def fake_setup(tmp_path: Path, source: str) -> environment.Setup:
    path = make_host(tmp_path / "host")
    (path / "main.py").write_text(source)
    (path / "system_stats").write_text("{}")
    return environment.Setup(PYTHON, host.Host(path, "0.30.0", installed=False))


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits for its parent does not."""
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def ends(pids: list[int], *, seconds: float = 20.0) -> bool:
    """Whether all of them have ended, now or soon."""
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_server_and_its_children_end_with_the_block_and_the_link_goes(tmp_path):
    base = tmp_path / "base"
    with pytest.raises(KeyboardInterrupt):
        with server.serve(fake_setup(tmp_path, FAKE_HOST), base) as running:
            assert running.json("/system_stats") == {}
            pids = [running.process.pid, int((base / "child.pid").read_text())]
            assert all(alive(pid) for pid in pids)
            raise KeyboardInterrupt
    assert ends(pids)
    assert "pack: ['ComfyUI-TalkStream']" in (base / "comfyui.log").read_text()
    assert list((base / "custom_nodes").iterdir()) == []
    assert list(base.glob("temp-*")) == []


def test_a_host_that_stands_still_is_given_up_and_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "START_SECONDS", 0.5)
    setup = fake_setup(tmp_path, "import time; print('waiting for nothing', flush=True); time.sleep(600)")
    with pytest.raises(DevError, match="did nothing for 0.5 s"):
        with server.serve(setup, tmp_path / "base"):
            pass
    assert list((tmp_path / "base" / "custom_nodes").iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_host_does_not_outlive_a_killed_starter(tmp_path):
    """A test run that was killed by a time limit used to leave ComfyUI running for ever."""
    setup, base = fake_setup(tmp_path, FAKE_HOST), tmp_path / "base"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from devtools.server import serve; from devtools.environment import Setup; from devtools.host import Host\n"
        "setup = Setup(Path(sys.executable), Host(Path(sys.argv[2]), '0.30.0', installed=False))\n"
        "with serve(setup, Path(sys.argv[3])) as server:\n    print(server.process.pid, flush=True); input()\n"
    )
    arguments = [sys.executable, "-c", code, str(host.ROOT), str(setup.host.path), str(base)]
    starter = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    keeper = int(starter.stdout.readline())
    pids = [keeper, int((base / "child.pid").read_text())]
    assert all(alive(pid) for pid in pids)
    starter.kill()
    starter.communicate()
    assert ends(pids)


def test_a_host_that_dies_shows_its_last_lines(tmp_path):
    setup = fake_setup(tmp_path, "import sys; print('no such device'); sys.exit(3)")
    with pytest.raises(DevError, match=r"code 3(.|\n)*no such device"):
        with server.serve(setup, tmp_path / "base"):
            pass


@pytest.mark.parametrize("wanted, expected", [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_a_hosts_idle_threads_sleep_unless_the_user_says_otherwise(tmp_path, monkeypatch, wanted, expected):
    """Threads that spin while they wait made a host many times slower beside another busy program."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if wanted:
        monkeypatch.setenv("OMP_WAIT_POLICY", wanted)
    code = "import os, sys; print('policy', os.environ['OMP_WAIT_POLICY']); sys.exit(3)"
    with pytest.raises(DevError, match=f"policy {expected}"):
        with server.serve(fake_setup(tmp_path, code), tmp_path / "base"):
            pass


def graph() -> demo.Graph:
    return {
        "1": {"class_type": "TalkStreamExamples", "inputs": {"portrait": "a", "voice": "b"}},
        "2": {"class_type": "TalkStreamEncodeSpeech", "inputs": {"audio": ["1", 1]}},
        "3": {"class_type": "TalkStreamEncodeReference", "inputs": {"image": ["1", 0], "width": 96}},
    }


def test_one_replaced_example_keeps_the_other():
    changed = demo.replace_example(graph(), 0, "LoadImage", {"image": "me.png"})
    assert changed["LoadImage_0"] == {"class_type": "LoadImage", "inputs": {"image": "me.png"}}
    assert changed["3"]["inputs"] == {"image": ["LoadImage_0", 0], "width": 96}
    assert changed["2"] == graph()["2"]
    assert "1" in changed


def test_examples_node_goes_when_both_are_replaced():
    changed = demo.replace_example(graph(), 0, "LoadImage", {"image": "me.png"})
    changed = demo.replace_example(changed, 1, "LoadAudio", {"audio": "me.wav"})
    assert sorted(changed) == ["2", "3", "LoadAudio_1", "LoadImage_0"]
    assert changed["2"]["inputs"] == {"audio": ["LoadAudio_1", 0]}


class FakeServer:
    """Answers as ComfyUI's API does."""

    def __init__(self, base: Path, entries: list[dict]) -> None:
        self.base, self.entries, self.log = base, entries, base / "comfyui.log"
        self.log.write_text("before\n")
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def json(self, path: str, body: object = None) -> dict:
        if path == "/prompt":
            raise urllib.error.HTTPError(path, 400, "Bad Request", {}, io.BytesIO(b'{"error": "no node"}'))
        with self.log.open("a") as log:
            log.write("chunk 1 of 9\n")
        entry = self.entries.pop(0)
        return {"p": entry} if entry else {}


@pytest.fixture
def fake_server(tmp_path):
    made = FakeServer(tmp_path, [])
    yield made
    made.process.kill()
    made.process.wait()


def test_demo_waits_for_the_outputs_and_shows_the_log(fake_server, capsys):
    outputs = {"9": {"images": [{"filename": "a_00001_.mp4", "subfolder": "talk", "type": "output"}]}}
    done = {"status": {"completed": True, "status_str": "success", "messages": []}, "outputs": outputs}
    fake_server.entries = [{}, done]
    assert demo.wait_for_outputs(fake_server, "p") == outputs
    assert capsys.readouterr().out == "  chunk 1 of 9\n"
    assert demo.written_video(fake_server, outputs) == fake_server.base / "output" / "talk" / "a_00001_.mp4"


def test_a_long_silence_of_the_log_shows_the_growing_file(fake_server, capsys, monkeypatch):
    monkeypatch.setattr(demo, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(demo, "follow", lambda _log: iter([[], []]))
    (fake_server.base / "output" / "video").mkdir(parents=True)
    (fake_server.base / "output" / "video" / "a_partial.mp4").write_bytes(b"0" * 250_000)
    done = {"status": {"completed": True, "status_str": "success", "messages": []}, "outputs": {}}
    fake_server.entries = [{}, done]
    demo.wait_for_outputs(fake_server, "p")
    assert capsys.readouterr().out.splitlines() == ["  0 s, 0.25 MB of video"] * 2


def test_demo_says_which_node_failed(fake_server):
    message = [
        "execution_error",
        {"node_type": "TalkStreamSave", "node_id": "9", "exception_message": "no disk\n"},
    ]
    fake_server.entries = [
        {"status": {"completed": False, "status_str": "error", "messages": [message]}, "outputs": {}}
    ]
    with pytest.raises(DevError, match="TalkStreamSave #9: no disk$"):
        demo.wait_for_outputs(fake_server, "p")


def test_refused_workflow_shows_the_reason(fake_server):
    with pytest.raises(DevError, match=r"refused the workflow \(400\).*no node"):
        demo.queue(fake_server, {})


def test_outputs_without_a_video_are_an_error(fake_server):
    with pytest.raises(DevError, match="without an MP4"):
        demo.written_video(fake_server, {"1": {"text": ["hello"]}})
