"""A past in main memory or in eight bits: RingKVCache's numbers, to the bit where the format is the same."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.courier import Courier
from talkstream.networks.eight_bit import token_bytes
from talkstream.networks.kv_cache import RingKVCache, StagedKVCache
from talkstream.tests.networks.cache_runner import DIM, GRID, HEADS, LAYERS, PROFILES, Runner, make

SIZES = {"layers": LAYERS, "dim": DIM, "tokens": GRID[0] * GRID[1], "itemsize": 8}
EIGHT = token_bytes(DIM, HEADS)


def same(a: Runner, b: Runner) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.outputs, b.outputs, strict=True))


@pytest.mark.parametrize("home", [None, "cpu"])
@pytest.mark.parametrize("name", PROFILES)
def test_every_attention_is_the_rings_to_the_bit(name, home):
    """With one stage and with two, of which one is filled ahead; also from a shorter first chunk."""
    for first in (None, 1):
        ring = Runner(make(RingKVCache, PROFILES[name], layers=3), oracle=False, layers=3)
        staged = Runner(make(StagedKVCache, PROFILES[name], layers=3, home=home), oracle=False, layers=3)
        for runner in (ring, staged):
            runner.run_chunk(0, latents=first)
            runner.run(8, first=1)
        assert same(ring, staged)


@pytest.mark.parametrize("name", PROFILES)
def test_bfloat16_is_the_rings_to_the_bit(name):
    caches = (
        make(RingKVCache, PROFILES[name], torch.bfloat16),
        make(StagedKVCache, PROFILES[name], torch.bfloat16, home="cpu"),
    )
    assert same(*(Runner(cache, dtype=torch.bfloat16, oracle=False).run(6) for cache in caches))


@pytest.mark.parametrize("home", [None, "cpu"])
@pytest.mark.parametrize("name", PROFILES)
def test_eight_bits_are_close(name, home):
    """Attention within 0.05 of the oracle's over evictions; what the chunk itself sees of it is exact."""
    runner = Runner(make(StagedKVCache, PROFILES[name], eight_bit=True, home=home))
    runner.run_chunk(0)
    assert runner.worst < 1e-10 or PROFILES[name].sink_source == "first_latents"
    runner.run(8, first=1)
    assert 1e-6 < runner.worst < 0.05 or not any(PROFILES[name].history)


@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("name", PROFILES)
def test_saved_loaded_reset_and_of_the_computed_size(name, eight_bit):
    spec = PROFILES[name]
    first, second = (
        Runner(make(StagedKVCache, spec, eight_bit=eight_bit, home="cpu"), oracle=False) for _ in range(2)
    )
    unit = EIGHT if eight_bit else 8 * DIM
    assert first.cache.kept_bytes == spec.kept_bytes(**SIZES, token_bytes=unit)
    assert first.cache.stage_bytes == 4 * spec.window * SIZES["tokens"] * DIM * 8
    second.run(2)
    first.run(4)
    second.cache.load_state_dict(first.cache.state_dict())
    second.generator.set_state(first.generator.get_state())
    for runner in (first, second):
        runner.outputs.clear()
        runner.run(3, first=4)
    assert same(first, second)
    fresh = Runner(make(StagedKVCache, spec, eight_bit=eight_bit, home="cpu"), oracle=False).run(3)
    first.cache.reset()
    first.outputs.clear()
    first.generator.manual_seed(0)
    assert same(first.run(3), fresh)


def test_noisy_passes_leave_nothing_behind():
    """A clean cache keeps its clean pass alone, and asks for one."""
    cache = make(StagedKVCache, PROFILES["lipforcing"], home="cpu")
    cache.begin_chunk(3)
    cache.begin_pass(0)
    for layer in range(LAYERS):
        cache.extend(layer, torch.ones(1, 6, DIM).double(), torch.ones(1, 6, DIM).double())
    assert not any(tensor.any() for tensor in cache.kept_tensors().values())
    with pytest.raises(RuntimeError, match="before the clean pass"):
        cache.end_chunk()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("name", ["livetalk", "lipforcing", "echotorrent"])
def test_streams_of_a_gpu_keep_their_order(name, eight_bit):
    """Past in page-locked memory, copies beside a busy computation: as with the past on the device."""
    outputs = []
    for home in (None, "cpu"):
        cache = make(
            StagedKVCache, PROFILES[name], torch.float32, device="cuda", home=home, eight_bit=eight_bit
        )
        if home == "cpu":
            for tensor in cache.kept_tensors().values():
                torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.nbytes, 1)
        runner = Runner(cache, dtype=torch.float32, oracle=False)
        draw, busy = runner.random, torch.randn(2048, 2048, device="cuda")
        runner.random = lambda latents, draw=draw, busy=busy: draw(latents).cuda() + 0 * (busy @ busy).sum()
        outputs.append(torch.cat([out.cpu() for out in runner.run(8).outputs], dim=1))
        cache.finish()
    assert torch.equal(*outputs)


def test_work_is_done_at_once_without_streams():
    done = []
    courier = Courier(torch.device("cpu"))
    event = courier.run(lambda: done.append(1))
    courier.wait(event)
    courier.finish()
    assert done == [1] and event is None
