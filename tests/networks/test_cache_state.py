"""Memory, saving, resetting and misuse of the ring cache."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from talkstream.networks.kv_cache import CLEAN_PASS, CacheSpec, GrowingKVCache, RingKVCache
from talkstream.tests.networks.cache_runner import DIM, GRID, HEADS, LAYERS, PROFILES, Runner, make


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", PROFILES)
def test_size_is_the_formula_exactly(name, dtype):
    """Bytes = 2bDS sum[T h + c (clean) + T_sink s] + workspace (per step) + bDS s per layer where a sink moves."""
    spec, tokens = PROFILES[name], GRID[0] * GRID[1]
    cache = make(RingKVCache, spec, dtype=dtype, layers=5, batch=2)
    unit = dtype.itemsize * DIM * tokens * 2
    per_step = spec.mode == "per_step"
    rings = spec.steps if per_step else 1
    sinks = rings if spec.sink_source == "first_latents" else 1
    histories = [spec.history[i % len(spec.history)] for i in range(5)]
    expected = (
        2 * unit * sum(rings * h + (0 if per_step else spec.chunk) + sinks * spec.sink for h in histories)
    )
    expected += 2 * unit * (spec.sink + max(histories) + spec.chunk) if per_step else 0
    expected += 5 * unit * spec.sink if spec.sink_rule != "absolute" else 0
    assert cache.size_bytes == expected
    assert spec.bytes(layers=5, dim=DIM, tokens=tokens, itemsize=dtype.itemsize, batch=2) == expected
    storages = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in cache._tensors().values()
    }
    assert sum(storages.values()) == expected


def test_known_sizes():
    """LiveTalk 1.3B at 512x512 in bfloat16: 2.64 GiB; a hybrid per-step 14B cache at 480x832: 29.75 + workspace."""
    livetalk = PROFILES["livetalk"].bytes(layers=30, dim=1536, tokens=1024, itemsize=2)
    assert livetalk == 30 * 2 * 2 * 1536 * 1024 * 15
    echo = PROFILES["echotorrent"].bytes(layers=40, dim=5120, tokens=1560, itemsize=2)
    unit = 2 * 5120 * 1560
    assert echo == 2 * unit * (20 * 4 * 12 + 40) + 2 * unit * 17 + unit * 40


@pytest.mark.parametrize("name", PROFILES)
def test_buffers_never_move_and_views_are_of_the_buffers(name):
    cache = make(RingKVCache, PROFILES[name])
    before = {key: tensor.data_ptr() for key, tensor in cache._tensors().items()}
    runner = Runner(cache, oracle=False).run(8)
    cache.reset()
    runner.run(2)
    assert {key: tensor.data_ptr() for key, tensor in cache._tensors().items()} == before
    cache.begin_chunk(cache.spec.chunk)
    cache.begin_pass(0)
    keys, values = cache.extend(0, runner.random(cache.spec.chunk), runner.random(cache.spec.chunk))
    storages = {tensor.untyped_storage().data_ptr() for tensor in cache._tensors().values()}
    assert {keys.untyped_storage().data_ptr(), values.untyped_storage().data_ptr()} <= storages


class Operations(TorchDispatchMode):
    """Names of the tensor operations run under it, and the size of the largest result outside known buffers."""

    def __init__(self, buffers):
        super().__init__()
        self.known = {tensor.untyped_storage().data_ptr() for tensor in buffers}
        self.names, self.largest = set(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.add(func.overloadpacket.__name__)
        if isinstance(out, torch.Tensor) and out.untyped_storage().data_ptr() not in self.known:
            self.largest = max(self.largest, out.numel())
        return out


@pytest.mark.parametrize("name", PROFILES)
def test_nothing_is_read_back_and_the_cache_is_never_copied(name):
    """No operation that waits for the device, and no new tensor larger than the chunk or the sink."""
    cache = make(RingKVCache, PROFILES[name])
    runner = Runner(cache, oracle=False).run(6)
    spec, tokens = cache.spec, GRID[0] * GRID[1]
    k, v = runner.random(spec.chunk), runner.random(spec.chunk)
    with Operations(cache._tensors().values()) as seen:
        cache.begin_chunk(spec.chunk)
        for step in range(spec.steps):
            cache.begin_pass(step)
            for layer in range(LAYERS):
                cache.extend(layer, k, v)
        cache.end_chunk()
    assert {"mul", "copy_"} <= seen.names
    assert not seen.names & {"_local_scalar_dense", "nonzero", "index"}
    assert seen.largest <= max(spec.chunk, spec.sink) * tokens * DIM


@pytest.mark.parametrize("chunks", [1, 3, 6])
@pytest.mark.parametrize("name", PROFILES)
def test_saved_and_loaded_goes_on_bit_identically(name, chunks):
    first = Runner(make(RingKVCache, PROFILES[name]), oracle=False).run(chunks)
    saved, generator = first.cache.state_dict(), first.generator.get_state()
    first.outputs.clear()
    first.run(4, first=chunks)
    second = Runner(make(RingKVCache, PROFILES[name]), seed=99, oracle=False).run(2)
    second.cache.load_state_dict(saved)
    second.generator.set_state(generator)
    second.outputs.clear()
    second.run(4, first=chunks)
    assert all(torch.equal(a, b) for a, b in zip(first.outputs, second.outputs, strict=True))


@pytest.mark.parametrize("name", PROFILES)
def test_reset_is_the_same_as_fresh(name):
    fresh = Runner(make(RingKVCache, PROFILES[name]), seed=5, oracle=False).run(6)
    used = Runner(make(RingKVCache, PROFILES[name]), seed=6, oracle=False).run(7)
    used.cache.reset()
    used.outputs.clear()
    used.generator.manual_seed(5)
    used.run(6)
    assert all(torch.equal(a, b) for a, b in zip(fresh.outputs, used.outputs, strict=True))


@pytest.mark.parametrize("name", PROFILES)
def test_two_caches_are_independent(name):
    alone = Runner(make(RingKVCache, PROFILES[name]), seed=1, oracle=False).run(6)
    a = Runner(make(RingKVCache, PROFILES[name]), seed=1, oracle=False)
    b = Runner(make(RingKVCache, PROFILES[name]), seed=2, oracle=False)
    for index in range(6):
        a.run_chunk(index)
        b.run_chunk(index)
    assert all(torch.equal(x, y) for x, y in zip(alone.outputs, a.outputs, strict=True))


@pytest.mark.parametrize("name", ["livetalk", "lipforcing"])
def test_only_the_last_pass_of_a_clean_chunk_is_remembered(name):
    """Noisy passes write the same slots; what later chunks see is the clean pass alone."""
    outputs = []
    for noisy in (0, 3):
        cache = make(RingKVCache, PROFILES[name])
        for chunk in range(6):
            cache.begin_chunk(3)
            for _ in range(noisy):
                cache.begin_pass(0)
                noise = torch.randn(1, 6, DIM, dtype=torch.float64)
                _ = [cache.extend(layer, noise, noise) for layer in range(LAYERS)]
            cache.begin_pass(CLEAN_PASS)
            generator = torch.Generator().manual_seed(chunk)
            clean = torch.randn(1, 6, DIM, dtype=torch.float64, generator=generator)
            outputs.append([x.clone() for layer in range(LAYERS) for x in cache.extend(layer, clean, clean)])
            cache.end_chunk()
    for a, b in zip(outputs[:6], outputs[6:], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_growing_cache_gives_gradients_to_the_running_pass_only():
    cache = make(GrowingKVCache, PROFILES["lipforcing"])
    past = torch.randn(1, 6, DIM, dtype=torch.float64, requires_grad=True)
    live = torch.randn(1, 6, DIM, dtype=torch.float64, requires_grad=True)
    for x in (past, live):
        cache.begin_chunk(3)
        cache.begin_pass(0)
        keys, values = cache.extend(0, x, x)
        cache.end_chunk()
    keys.square().sum().backward()
    assert past.grad is None
    torch.testing.assert_close(live.grad, 2 * live, rtol=0, atol=1e-12)


def test_ring_cache_refuses_gradients():
    cache = make(RingKVCache, PROFILES["lipforcing"])
    cache.begin_chunk(3)
    x = torch.zeros(1, 6, DIM, dtype=torch.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="GrowingKVCache"):
        cache.extend(0, x, x)


def test_misuse_is_named():
    cache = make(RingKVCache, PROFILES["livetalk"])
    with pytest.raises(RuntimeError, match="begin_chunk first"):
        cache.positions()
    with pytest.raises(ValueError, match="no sink pass"):
        cache.begin_sink(1)
    with pytest.raises(ValueError, match="chunk of 4"):
        cache.begin_chunk(4)
    cache.begin_chunk(3)
    with pytest.raises(RuntimeError, match="is open"):
        cache.state_dict()
    with pytest.raises(ValueError, match="5 tokens"):
        cache.extend(0, torch.zeros(1, 5, DIM), torch.zeros(1, 5, DIM))
    per_step = Runner(make(RingKVCache, PROFILES["per_step_absolute"]), oracle=False).run(1).cache
    per_step.begin_chunk(3)
    per_step.begin_pass(0)
    with pytest.raises(RuntimeError, match="step 0 ran already"):
        per_step.begin_pass(0)
    with pytest.raises(ValueError, match=r"steps 0\.\.1"):
        per_step.begin_pass(CLEAN_PASS)


def test_a_state_of_another_cache_is_refused():
    state = make(RingKVCache, PROFILES["livetalk"]).state_dict()
    with pytest.raises(ValueError, match="other buffers"):
        make(RingKVCache, PROFILES["lipforcing"]).load_state_dict(state)
    with pytest.raises(ValueError, match="saved buffer"):
        make(RingKVCache, PROFILES["livetalk"], dtype=torch.float32).load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 0}, "chunk is 0"),
        ({"history": ()}, "history"),
        ({"sink_rule": "before"}, "allowed: absolute"),
        ({"mode": "dirty"}, "clean, per_step"),
        ({"sink_offset": 3}, "needs sink_rule 'ahead'"),
    ],
)
def test_bad_specs_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        CacheSpec(**{"chunk": 3, "sink": 1, "history": (3,), **change})


def test_heads_and_batches_do_not_mix():
    """A batch of two streams gives what each gives alone."""
    pair = make(RingKVCache, PROFILES["lipforcing"], batch=2)
    single = make(RingKVCache, PROFILES["lipforcing"])
    for _ in range(5):
        x = torch.randn(2, 6, DIM, dtype=torch.float64)
        for cache, part in ((pair, x), (single, x[1:])):
            cache.begin_chunk(3)
            keys, values = cache.extend(0, part, part)
            cache.end_chunk()
            if cache is pair:
                both = keys[1:].clone(), values[1:].clone()
        assert torch.equal(both[0], keys) and torch.equal(both[1], values)
    assert HEADS == 2


@pytest.mark.parametrize("name", PROFILES)
def test_a_growing_cache_goes_on_from_its_state(name):
    """Seven chunks at once, and four, saved, and three: the same attention, bit for bit."""
    whole = Runner(make(GrowingKVCache, PROFILES[name]), oracle=False).run(7)
    first = Runner(make(GrowingKVCache, PROFILES[name]), oracle=False).run(4)
    second = Runner(make(GrowingKVCache, PROFILES[name]), oracle=False)
    second.cache.load_state_dict(first.cache.state_dict())
    second.generator = first.generator
    second.run(3, first=4)
    assert all(torch.equal(a, b) for a, b in zip(whole.outputs, first.outputs + second.outputs, strict=True))


def test_a_rewound_growing_cache_keeps_its_sink_and_forgets_its_history():
    """What follows is attended to as in a stream whose window begins at the place it went back to."""
    spec = CacheSpec(chunk=3, sink=2, history=(6,), sink_rule="before_window", sink_source="reference")
    runner = Runner(make(GrowingKVCache, spec)).run(5)
    runner.cache.rewind(3)
    assert runner.cache.next_latent == 12
    runner.cache.begin_chunk(3)
    runner.cache.begin_pass(0)
    keys, _ = runner.cache.extend(0, runner.random(3), runner.random(3))
    assert keys.shape[1] == (2 + 3) * 2  # sink and chunk, two tokens each
    fresh = Runner(make(GrowingKVCache, PROFILES["livetalk"]), oracle=False).run(4)
    assert fresh.cache.rewindable == 3  # nine of the twelve are the sink
    with pytest.raises(ValueError, match="cannot go back 6 latents from latent 12; 3 of them"):
        fresh.cache.rewind(6)
