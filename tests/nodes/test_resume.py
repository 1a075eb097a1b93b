"""A run that broke off goes on from its last save point, and only the very same run does."""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from talkstream.tests.nodes.client import Graph, changed, run
from talkstream.tests.nodes.graphs import SAVE
from talkstream.tests.nodes.test_takes import calls, counted, pictures, takes

pytestmark = pytest.mark.host

CALLS = 5 * 2 + 4  # 50 frames in five chunks: their steps, and the clean passes between them
BREAK_AT = 9  # the clean pass of the third chunk
LEFT = 3 * 2 + 2  # behind the second chunk


def saving(*, seed: int, every: int = 1) -> Graph:
    return changed(counted(seed=seed, seconds=2.0), n8={"save_state_every": every})


@pytest.fixture
def runs(host_server) -> Callable[[], list[Path]]:
    """Saved runs that this test has made; a long stream that another test stopped is still there."""
    folder = host_server.base / "user" / "__talkstream" / "runs"
    before = set(folder.glob("*"))
    return lambda: [path for path in set(folder.glob("*")) - before if path.is_dir()]


def broken(server, graph: Graph) -> None:
    calls(server, break_at=BREAK_AT)
    assert "this call was made to fail" in run(server, graph).error
    calls(server)


def forget_takes(server) -> None:
    """The host drops what its nodes returned: at the latest behind the next graph, which makes nothing of ours."""
    server.request("/free", b'{"free_memory": true}')
    picture = {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}}
    shown = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    assert run(server, {"1": picture, "2": shown}).error == ""
    deadline = time.monotonic() + 60
    while takes(server) and time.monotonic() < deadline:
        time.sleep(0.2)


def test_the_same_graph_goes_on_and_no_other_does(host_server, model_files, runs):
    """Frame-identical; nothing is left behind; a changed seed, file name or quality does what it should."""
    graph = saving(seed=301)
    whole = run(host_server, saving(seed=301, every=0))
    assert runs() == []
    forget_takes(host_server)
    broken(host_server, graph)
    assert len(runs()) == 1

    other = run(host_server, saving(seed=302))
    assert (other.error, calls(host_server)) == ("", CALLS)

    resumed = run(host_server, changed(graph, n8={"filename_prefix": "resumed/video", "crf": 18.0}))
    assert (resumed.error, calls(host_server)) == ("", LEFT)
    frames = pictures(resumed.video(SAVE, host_server))
    assert len(frames) == 50
    assert (frames == pictures(whole.video(SAVE, host_server))).all()
    assert runs() == []
    assert resumed.outputs[SAVE]["text"][0].startswith("50 frames, 2.00 s, made in ")


def test_short_streams_are_not_saved_by_themselves(host_server, model_files, runs):
    graph = saving(seed=303, every=-1)
    broken(host_server, graph)
    assert runs() == []
    assert (run(host_server, graph).error, calls(host_server)) == ("", CALLS)


def test_a_damaged_state_is_ignored(host_server, model_files, runs):
    graph = saving(seed=304)
    broken(host_server, graph)
    latents = runs()[0] / "latents"
    content = bytearray(latents.read_bytes())
    content[100] ^= 1
    latents.write_bytes(content)
    assert (run(host_server, graph).error, calls(host_server)) == ("", CALLS)
    assert "its saved state is damaged (chunk 0 of" in host_server.log.read_text("utf-8", errors="replace")
    assert runs() == []


def test_long_streams_are_saved_by_themselves(host):
    """A minute and more: every 20 chunks; a wish of the user's goes first."""
    from talkstream.nodes.saving import AUTO, chunks_between_saves

    def frames(seconds: float) -> SimpleNamespace:
        return SimpleNamespace(frames=round(seconds * 25), fps=Fraction(25))

    assert [chunks_between_saves(frames(s), AUTO) for s in (1.0, 59.9, 60.0, 3600.0)] == [0, 0, 20, 20]
    assert [chunks_between_saves(frames(3600.0), wish) for wish in (0, 1, 7)] == [0, 1, 7]


def test_fingerprints_tell_patches_and_strengths_apart(host):
    """Equal values, equal name, in whatever object they are; another LoRA strength or weight, another name."""
    from comfy.model_patcher import ModelPatcher

    from talkstream.nodes.host.identity import fingerprint
    from talkstream.streaming.fingerprint import UnknownValueError

    class Network(torch.nn.Module):
        def __init__(self, weight: torch.Tensor) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(512, 512, bias=False)
            self.linear.weight.data = weight.clone()

    def patched(weight: torch.Tensor, *strengths: float) -> ModelPatcher:
        patcher = ModelPatcher(Network(weight), torch.device("cpu"), torch.device("cpu"))
        for strength in strengths:
            patcher.add_patches({"linear.weight": ("diff", (difference,))}, strength)
        return patcher

    weight, difference, voice = torch.randn(512, 512), torch.randn(512, 512), torch.randn(1, 70_000)
    tuned = weight + 1e-4 * difference
    parts = [
        {"model": patched(weight), "voice": voice, "seed": 1},
        {"model": patched(weight), "voice": voice, "seed": 2},
        {"model": patched(weight), "voice": voice * 1.001, "seed": 1},
        {"model": patched(tuned), "voice": voice, "seed": 1},
        {"model": patched(weight, 1.0), "voice": voice, "seed": 1},
        {"model": patched(weight, 0.5), "voice": voice, "seed": 1},
        {"model": patched(weight, 1.0, 0.5), "voice": voice, "seed": 1},
    ]
    assert len({fingerprint(part) for part in parts}) == len(parts)
    again = {"model": patched(weight, 0.5), "voice": voice.clone(), "seed": 1}
    assert fingerprint(again) == fingerprint(parts[5])
    loaded = patched(weight, 0.5)
    loaded.patch_model(device_to=torch.device("cpu"))  # its weights hold the patch now
    assert not torch.equal(loaded.model.linear.weight, weight)
    assert fingerprint({**again, "model": loaded}) == fingerprint(parts[5])

    opaque = patched(weight)
    opaque.model_options["transformer_options"]["patches"] = {"attn1": [object()]}
    with pytest.raises(UnknownValueError, match="a patch of the type object"):
        fingerprint({"model": opaque})
