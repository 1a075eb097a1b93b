"""EchoTorrent's inference loop through the streaming engine, against the naive oracle's golden."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from talkstream.networks.eight_bit import token_bytes
from talkstream.networks.kv_cache import CacheSpec
from talkstream.networks.multitalk import project_speech
from talkstream.networks.multitalk_profiles import ECHOTORRENT
from talkstream.networks.ops import sdpa_attention
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.reference import ClipConditioning
from talkstream.streaming.session import StreamSession
from talkstream.streaming.spec import StreamSpec
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, build, close, windows
from talkstream.tests.golden.test_echotorrent_cache import VARIANTS, spec_of

RATE, LATENTS, CHUNKS = 16000, 24, 6
PATTERNS = {"hybrid": (12, 0), "full_causal": (12,), "full_bidirectional": (0,)}


class Rig:
    """The golden's network and inputs in one dtype."""

    def __init__(self, path, dtype: torch.dtype) -> None:
        self.golden = MultiTalkGolden(path, dtype)
        self.model = build(self.golden)
        heard = windows(self.golden["in.audio_raw"], 0, 4 * LATENTS - 3)
        self.tokens_BTME = project_speech(self.model.audio_proj, heard, first_alone=True)
        self.reference = ClipConditioning(self.golden["in.y_cond"][None])

    def schedule(self, entries: list[int]) -> Schedule:
        sigmas, steps = self.golden["in.sigmas"][entries], self.golden["in.timesteps"][entries]
        return Schedule(sigmas=(*sigmas.tolist(), 0.0), timesteps=tuple(steps.tolist()))

    def session(self, variant: str, **kept: object) -> StreamSession:
        """kept: where or in which format the cache keeps its past."""
        golden = self.golden
        entries = golden.meta["variants"][variant]["sigma_entries"]
        cache_spec = spec_of(golden.meta, variant)
        spec = StreamSpec(
            profile=dataclasses.replace(ECHOTORRENT, x0_dtype=str(golden.dtype).removeprefix("torch.")),
            schedule=self.schedule(entries),
            cache_spec=cache_spec,
            latent_height=4,
            latent_width=6,
            samples=(4 * LATENTS - 3) * RATE // 25,
            sample_rate=RATE,
        )
        clip = golden["in.clip_fea"][None]
        text = torch.nn.functional.pad(golden["in.context"][None], (0, 0, 0, 32 - 7))
        network = LocalNetwork(self.model, text_BMD=text, image_BMC=clip)
        draws = {(c, 0): golden["in.noise_init"][c][None] for c in range(CHUNKS)}
        draws |= {(c, j + 1): golden["in.eps"][c, j][None] for c in range(CHUNKS) for j in range(3)}
        return StreamSession(
            spec,
            network,
            cache=network.make_cache(cache_spec, spec.grid, **kept),
            speech=self,
            reference=self.reference,
            noise=RecordedNoise(draws),
        )

    def tokens(self, first_latent: int, latents: int) -> Tensor:
        return self.tokens_BTME[:, first_latent : first_latent + latents]


@pytest.fixture(scope="module")
def path(golden_file):
    return golden_file("echotorrent_tiny.safetensors")


@pytest.fixture(scope="module")
def exact(path) -> Rig:
    return Rig(path, torch.float64)


@pytest.fixture(scope="module")
def single(path) -> Rig:
    return Rig(path, torch.float32)


@pytest.mark.parametrize("variant", VARIANTS)
def test_closed_loop_in_float64(exact, variant):
    """Six chunks through the ring cache: latents within 1e-10 of the oracle's."""
    expected = exact.golden.tensors[f"{variant}.latents"]
    made = [chunk.latent_BCTHW[0] for chunk in exact.session(variant).chunks()]
    close(torch.stack(made), expected, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_closed_loop_in_float32(single, variant):
    """The same in single precision: within 5e-5."""
    made = [chunk.latent_BCTHW[0].double() for chunk in single.session(variant).chunks()]
    close(torch.stack(made), single.golden.tensors[f"{variant}.latents"], 5e-5)


def test_recorded_inputs(exact):
    """Conditioning channels are the golden's to the bit, audio tokens to its precision."""
    golden = exact.golden
    parts = [exact.reference.channels(4 * c, 4)[0] for c in range(CHUNKS)]
    assert torch.equal(torch.cat(parts, dim=1), golden["in.y"])
    close(exact.tokens_BTME[0], golden["audio_tokens"], 1e-6)


def test_state_between_chunks_holds_the_sink(single):
    """Saved after chunk 0, loaded into another session: the same bits to the end."""
    session = single.session("hybrid")
    chunks = session.chunks()
    next(chunks)
    state = session.state_dict()
    other = single.session("hybrid")
    other.load_state_dict(state)
    for left, right in zip(chunks, other.chunks(), strict=True):
        assert torch.equal(left.latent_BCTHW, right.latent_BCTHW)


def velocity(rig: Rig, x_BCTHW: Tensor, timestep: float, cache, **options) -> Tensor:
    first = 0 if cache is None else cache.next_latent
    latents = x_BCTHW.shape[2]
    return rig.model(
        torch.cat([x_BCTHW, rig.reference.channels(first, latents)], dim=1),
        timestep_BT=torch.full((1, 1), timestep, dtype=torch.float64),
        text_BMD=rig.golden.text(rig.model),
        audio_tokens_BTE=rig.tokens(first, latents),
        cache=cache,
        **options,
    )


def empty_cache(rig: Rig, pattern: tuple[int, ...], steps: int):
    spec = CacheSpec(chunk=4, sink=0, history=pattern, mode="per_step", steps=steps)
    text = torch.zeros(1, 32, 64, dtype=rig.golden.dtype)
    network = LocalNetwork(rig.model, text_BMD=text, image_BMC=rig.golden["in.clip_fea"][None])
    return network.make_cache(spec, (2, 3))


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_one_chunk_without_past_is_the_plain_forward(exact, pattern):
    """No history, no sink, one chunk: bit for bit InfiniteTalk's forward on four latents, at every step."""
    x = exact.golden["in.noise_init"][0][None]
    cache = empty_cache(exact, pattern, 4)
    cache.begin_chunk(4)
    for step, timestep in enumerate((1000.0, 937.5, 833.25, 625.0)):
        cache.begin_pass(step)
        assert torch.equal(velocity(exact, x, timestep, cache), velocity(exact, x, timestep, None))


class PerLayerMask:
    """Attention for a whole sequence that gives each layer's self-attention its own mask."""

    def __init__(
        self, pattern: tuple[int, ...], latents: int, tokens: int, *, calls_per_layer: int = 4
    ) -> None:
        """calls_per_layer: self, text, image and audio, less those that a network lacks; a null text takes none."""
        self.calls, self.masks, self.calls_per_layer = 0, [], calls_per_layer
        chunk = torch.arange(latents) // 4
        at = torch.arange(latents)
        for history in pattern:
            past = (at[None] < 4 * chunk[:, None]) & (at[None] >= 4 * chunk[:, None] - history)
            seen = past | (chunk[None] == chunk[:, None])
            self.masks.append(seen.repeat_interleave(tokens, 0).repeat_interleave(tokens, 1))

    def __call__(self, q, k, v, heads, mask=None):
        layer, kind = divmod(self.calls, self.calls_per_layer)
        self.calls += 1
        return sdpa_attention(q, k, v, heads, self.masks[layer % len(self.masks)] if kind == 0 else None)


@pytest.mark.parametrize("pattern", [(8, 0), (8,), (0,)], ids=PATTERNS)
def test_cached_steps_are_a_recomputed_sequence(exact, pattern):
    """Per-step cache over four chunks, two of them evicted at the end: the same as one masked sequence."""
    x = exact.golden["in.noise_init"][:4].transpose(0, 1).flatten(1, 2)[None]
    cache = empty_cache(exact, pattern, 2)
    timesteps = (1000.0, 625.0)
    inputs = (x, 0.5 * x.flip(2))
    made = ([], [])
    for chunk in range(4):
        cache.begin_chunk(4)
        for step in range(2):
            cache.begin_pass(step)
            part = inputs[step][:, :, 4 * chunk : 4 * chunk + 4]
            made[step].append(velocity(exact, part, timesteps[step], cache))
        cache.end_chunk()
    for step in range(2):
        whole = velocity(exact, inputs[step], timesteps[step], None, attention=PerLayerMask(pattern, 16, 6))
        close(torch.cat(made[step], dim=2), whole, 1e-12)


@pytest.mark.parametrize("variant", ["hybrid", "sink4"])
def test_a_past_in_main_memory(single, variant):
    """Keys and values travel for every layer: the same bits."""
    own, other = single.session(variant), single.session(variant, home="cpu")
    for left, right in zip(own.chunks(), other.chunks(), strict=True):
        assert torch.equal(left.latent_BCTHW, right.latent_BCTHW)


def test_eight_bit_history(single):
    """Rings in eight bits: latents within 2.5e-3 of the exact ones (deviation 1.2); the first chunk reads none."""
    exact = single.golden.tensors["hybrid.latents"].float()
    made = torch.stack([chunk.latent_BCTHW[0] for chunk in single.session("hybrid", eight_bit=True).chunks()])
    assert torch.equal(made[0], next(single.session("hybrid").chunks()).latent_BCTHW[0])
    error = (made - exact).abs().amax((1, 2, 3, 4))
    assert error.max() < 2.5e-3 and error[1:].min() > 1e-4


def test_memory_at_the_published_size():
    """14B at 400x720 in bf16: 21.5 GiB of history and sink, 0.4 GiB workspace; history in eight bits: half."""
    spec, tokens, gib = ECHOTORRENT.cache_spec, 25 * 45, 2**30
    sizes = {"layers": 40, "dim": 5120, "tokens": tokens, "itemsize": 2}
    workspace, moved_sink = 2 * 2 * 5120 * tokens * (1 + 12 + 4), 2 * 5120 * tokens * 40
    kept = spec.bytes(**sizes) - workspace - moved_sink
    assert (round(kept / gib, 1), round(workspace / gib, 1)) == (21.5, 0.4)
    assert spec.kept_bytes(**sizes, token_bytes=2 * 5120) == kept
    assert 0.5 < spec.kept_bytes(**sizes, token_bytes=token_bytes(5120, 40)) / kept < 0.56
