"""A student of the Mini's family whose file asks for EchoTorrent's cache rules, through the graph."""

from __future__ import annotations

import pytest
import torch

from talkstream.samplers.noise import SeededNoise
from talkstream.tests.nodes.client import Graph, changed, probe, run
from talkstream.tests.nodes.graphs import SAVE, node, tiny
from talkstream.tests.nodes.model_files import hybrid_profile, write_students
from talkstream.tests.nodes.test_chunk_sampler import SEED, sampled, speech_of, streamed
from talkstream.tests.nodes.test_echotorrent_graph import compared
from talkstream.tests.nodes.test_takes import calls, pictures

pytestmark = pytest.mark.host

SECONDS, FRAMES, CHUNKS = 3.68, 92, 6
CALLS = 4 * CHUNKS + 2  # four steps a chunk, no clean passes, and a pass for each of the two sinks


@pytest.fixture(scope="module")
def server(host_server, model_files):
    return host_server


def hybrid(*, seed: int, seconds: float = SECONDS, **save: object) -> Graph:
    """Load Student .. Save Stream with a voice; network calls are counted."""
    graph = changed(
        tiny(),
        n1={"student": "hybrid.safetensors"},
        n4={"audio": ["9", 0]},
        n6={"seed": seed, "model": ["30", 0]},
        n8=save,
    )
    return graph | {
        "9": node("TestVoice", seconds=seconds, seed=4),
        "30": node("TestCountCalls", model=["1", 0]),
    }


def test_from_voice_to_film(server):
    """Where the caches lie changes nothing, eight bits a little; a limit and a cut keep what they must."""
    graph = hybrid(seed=41)
    cut = {"9c": node("TestVoice", seconds=2.0, seed=4)}
    cut["4c"] = changed(graph, n4={"audio": ["9c", 0]})["4"]
    asked = (
        graph
        | cut
        | {
            "4l": changed(graph, n4={"limit_seconds": 2.0})["4"],
            **compared(graph, "2", frames=FRAMES, placement="main memory"),
            **compared(graph, "3", frames=FRAMES, dtype="8 bit"),
            **compared(graph, "4", frames=50, speech="4l"),
            **compared(graph, "5", frames=45, speech="4c"),  # chunks end at 13, 29, 45, 61; the voice at 50
        }
    )
    result = run(server, asked)
    assert result.error == ""
    assert "profile hybrid: the file's own metadata" in result.outputs["1"]["text"][0]
    assert f"{FRAMES} frames at 25 fps → {CHUNKS} chunks" in result.outputs["4"]["text"][0]
    made = probe(result.video(SAVE, server))
    assert (made.frames, float(made.fps), made.size) == (FRAMES, 25.0, (32, 32))
    differences = {number: result.outputs[f"{number}6"]["text"][0] for number in "2345"}
    assert differences["2"] == "(92, 32, 32, 3) 0.0"
    assert 0 < float(differences["3"].rpartition(" ")[2]) < 0.1
    assert differences["4"] == "(50, 32, 32, 3) 0.0"
    assert differences["5"] == "(45, 32, 32, 3) 0.0"


def test_a_broken_run_goes_on_behind_its_last_chunk(server):
    """Saved behind every chunk, the sink among it; the same frames as in one go, and no pass a second time."""
    calls(server)
    whole = run(server, hybrid(seed=42, save_state_every=0))
    assert (whole.error, calls(server)) == ("", CALLS)
    graph = hybrid(seed=42, save_state_every=1, filename_prefix="hybrid/resumed")
    graph = changed(graph, n9={"seconds": SECONDS + 1e-5})  # as many samples; no take to replay
    for break_at in (4 + 2 + 2, 3 * 4 + 2):  # in the second chunk, and then in the fifth
        calls(server, break_at=break_at)
        assert "this call was made to fail" in run(server, graph).error
        calls(server)
    resumed = run(server, graph)
    assert resumed.error == ""
    assert calls(server) == 2 * 4
    expected, got = (pictures(result.video(SAVE, server)) for result in (whole, resumed))
    assert len(got) == FRAMES and (got == expected).all()


class ChunkNoise:
    """A NOISE that starts every chunk of four as Stream Chunks does."""

    seed = SEED

    def generate_noise(self, latent):
        shape = latent["samples"].shape
        pieces = [SeededNoise(SEED).initial(i, (*shape[:2], 4, *shape[3:])) for i in range(shape[2] // 4)]
        return torch.cat(pieces, dim=2)


def test_chunk_sampler_makes_the_same(host, tmp_path):
    """Inside core's SamplerCustomAdvanced, sinks included: within 2e-6 of Stream Chunks."""
    from talkstream.nodes.host.student import load_student
    from talkstream.nodes.types import Reference

    write_students(tmp_path)
    model, _ = load_student(tmp_path / "hybrid.safetensors", profile="auto", precision="fp32")
    reference = Reference(torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(1)), 32, 32)
    speech = speech_of(model, 77 / 25)
    expected = streamed(model, speech, reference)
    assert expected.shape == (1, 16, 20, 4, 4)
    sigmas = torch.tensor(hybrid_profile().sigmas)
    result, _ = sampled(model, speech, reference, noise=ChunkNoise(), sigmas=sigmas)
    assert float((result - expected).abs().max()) < 2e-6
