"""The forward on random tiny networks: chunks, null text, precision, misuse, and the host's module tree."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.attention import TextContext, prepare_text
from talkstream.networks.kv_cache import CacheSpec, GrowingKVCache, RingKVCache
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.networks.wan_forward import wan_forward

CONFIG = WanConfig(
    dim=48, in_dim=33, ffn_dim=64, num_heads=2, num_layers=6, text_dim=16, audio_in=40, audio_hidden=8
)


@pytest.fixture
def model() -> WanModel:
    """All parameters random, none at a special value."""
    network = WanModel(CONFIG)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in network.named_parameters():
        scale = 1.0 if parameter.ndim == 1 and "norm" in name else 0.2
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = scale * noise / (parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1.0)
    return network.requires_grad_(False)


def inputs(latents=6, text_rows=5, batch=1):
    generator = torch.Generator().manual_seed(4)
    shapes = {
        "x": (batch, 33, latents, 4, 6),
        "text": (batch, text_rows, 16),
        "audio": (batch, latents, 8),
    }
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return made["x"], made["text"], made["audio"]


def run(model, x, text, audio, timestep=500.0, **options):
    timesteps = torch.full((x.shape[0], x.shape[2]), timestep)
    return model(x, timestep_BT=timesteps, text_BMD=text, audio_tokens_BTE=audio, **options)


def make_cache(cls, spec, dtype=torch.float32, batch=1):
    return cls(spec, layers=6, dim=48, heads=2, grid=(2, 3), dtype=dtype, batch=batch)


@pytest.mark.parametrize("cls", [RingKVCache, GrowingKVCache])
def test_one_chunk_is_the_whole_clip(model, cls):
    x, text, audio = inputs()
    cache = make_cache(cls, CacheSpec(chunk=6, sink=0, history=(0,)))
    cache.begin_chunk(6)
    torch.testing.assert_close(
        run(model, x, text, audio, cache=cache), run(model, x, text, audio), rtol=0, atol=1e-5
    )


def test_positions_count_only_relatively(model):
    """Without a cache only distances count: a clip anywhere gives the same, one with a gap does not."""
    x, text, audio = inputs()
    plain = run(model, x, text, audio)
    moved = run(model, x, text, audio, positions=range(700, 706))
    torch.testing.assert_close(moved, plain, rtol=0, atol=1e-5)
    assert (run(model, x, text, audio, positions=[0, 1, 2, 9, 10, 11]) - plain).abs().max() > 2e-4
    with pytest.raises(ValueError, match="got 2 positions for 6 latents"):
        run(model, x, text, audio, positions=[0, 1])


def test_masks_repeat_over_the_layers(model):
    """Two masks serve even and odd layers: the second one hides all but the diagonal from odd layers alone."""
    x, text, audio = inputs()
    everything, own = torch.ones(36, 36, dtype=torch.bool), torch.eye(36, dtype=torch.bool)
    outputs = {
        name: run(model, x, text, audio, attention_mask_LL=masks)
        for name, masks in (("none", None), ("all", (everything,)), ("odd", (everything, own)), ("own", own))
    }
    torch.testing.assert_close(outputs["all"], outputs["none"], rtol=0, atol=1e-5)
    three = run(model, x, text, audio, attention_mask_LL=[everything, own] * 3)
    assert torch.equal(outputs["odd"], three)
    for other in ("none", "own"):
        assert (outputs["odd"] - outputs[other]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="no attention mask"):
        run(model, x, text, audio, attention_mask_LL=())


def test_prepared_text_is_the_same_as_text_rows(model):
    x, text, audio = inputs()
    assert torch.equal(run(model, x, prepare_text(model, text), audio), run(model, x, text, audio))


def test_a_single_text_row_is_folded_into_constants(model):
    """Softmax over one key is 1: the folded form equals attention over two equal rows."""
    x, text, audio = inputs(text_rows=1)
    folded = prepare_text(model, text)
    assert len(folded.constants_B1D) == 6
    twice = run(model, x, text.expand(-1, 2, -1), audio)
    torch.testing.assert_close(run(model, x, folded, audio), twice, rtol=0, atol=1e-5)


def test_latents_may_have_timesteps_of_their_own(model):
    """A clip at one timestep each equals what a uniform clip gives only where they agree."""
    x, text, audio = inputs()
    uniform = run(model, x, text, audio)
    timesteps = torch.full((1, 6), 500.0)
    timesteps[0, 5] = 20.0
    mixed = model(x, timestep_BT=timesteps, text_BMD=text, audio_tokens_BTE=audio)
    assert (mixed - uniform).abs()[:, :, 5].max() > 1e-2
    one = model(x, timestep_BT=torch.full((1, 1), 500.0), text_BMD=text, audio_tokens_BTE=audio)
    torch.testing.assert_close(one, uniform, rtol=0, atol=1e-6)


def test_batch_items_are_independent(model):
    x, text, audio = inputs(batch=2)
    together = run(model, x, text, audio)
    alone = torch.cat([run(model, x[i : i + 1], text[i : i + 1], audio[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_audio_is_heard_by_its_own_latent(model):
    """With one chunk per latent and no history a change of latent 2's audio changes latent 2 alone."""
    x, text, audio = inputs()
    changed = audio.clone()
    changed[:, 2] += 1.0
    outputs = []
    for tokens in (audio, changed):
        cache = make_cache(RingKVCache, CacheSpec(chunk=1, sink=0, history=(0,)))
        parts = []
        for i in range(6):
            cache.begin_chunk(1)
            parts.append(run(model, x[:, :, i : i + 1], text, tokens[:, i : i + 1], cache=cache))
            cache.end_chunk()
        outputs.append(torch.cat(parts, dim=2))
    same = [torch.equal(outputs[0][:, :, i], outputs[1][:, :, i]) for i in range(6)]
    assert same == [True, True, False, True, True, True]


def test_float64_and_bfloat16_run_throughout(model):
    x, text, audio = inputs()
    double = run(model.double(), x.double(), text.double(), audio.double())
    single = run(model.float(), x, text, audio)
    torch.testing.assert_close(single.double(), double, rtol=0, atol=1e-5)
    half = run(model.bfloat16(), x.bfloat16(), text.bfloat16(), audio.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.double() - double).abs().max() < 0.1 * double.abs().max()


@pytest.mark.parametrize(("stored", "tolerance"), [(torch.bfloat16, 0.02), (torch.float8_e4m3fn, 0.2)])
def test_a_smaller_cache_serves_a_float32_network(model, stored, tolerance):
    x, text, audio = inputs()
    spec = CacheSpec(chunk=3, sink=1, history=(3,), sink_rule="before_window")
    results = {}
    for dtype in (torch.float32, stored):
        cache = make_cache(RingKVCache, spec, dtype=dtype)
        for start in (0, 3):
            part = slice(start, start + 3)
            cache.begin_chunk(3)
            results[dtype] = run(model, x[:, :, part], text, audio[:, part], cache=cache)
            cache.end_chunk()
    assert results[stored].dtype == torch.float32
    torch.testing.assert_close(results[stored], results[torch.float32], rtol=0, atol=tolerance)


def test_gradients_reach_every_parameter_through_the_growing_cache():
    network = WanModel(CONFIG)
    network.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.head.head.weight.normal_()
        for projection in network.audio_cond_projs:
            projection.weight.normal_()
    x, text, audio_in = inputs()[0], inputs()[1], torch.randn(1, 6, 40)
    cache = make_cache(GrowingKVCache, CacheSpec(chunk=3, sink=1, history=(3,)))
    for start in (0, 3):
        part = slice(start, start + 3)
        cache.begin_chunk(3)
        out = run(network, x[:, :, part], text, network.audio_proj(audio_in[:, part]), cache=cache)
        cache.end_chunk()
    out.square().mean().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert without == []


def test_initialization_is_reproducible_and_starts_at_zero_velocity():
    networks = [WanModel(CONFIG) for _ in range(2)]
    for network in networks:
        network.initialize(torch.Generator().manual_seed(7))
    states = [network.state_dict() for network in networks]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    x, text, audio = inputs()
    with torch.no_grad():
        assert run(networks[0], x, text, audio).abs().max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 32, 3, 4, 6)}, "33 input channels and got 32"),
        ({"x": torch.zeros(1, 33, 3, 5, 6)}, "multiple of the patch"),
        ({"timesteps": torch.zeros(1, 2)}, r"expected \(1, 3\) or \(1, 1\)"),
        ({"audio": torch.zeros(1, 2, 8)}, r"expected \(1, 3\)"),
        ({"projections": []}, "need 2 audio projections; got 0"),
    ],
)
def test_misuse_is_named(model, change, message):
    values = {
        "x": torch.zeros(1, 33, 3, 4, 6),
        "timesteps": torch.zeros(1, 3),
        "audio": torch.zeros(1, 3, 8),
        "projections": model.audio_cond_projs,
    } | change
    with pytest.raises(ValueError, match=message):
        wan_forward(
            model,
            values["x"],
            timestep_BT=values["timesteps"],
            text_BMD=TextContext(constants_B1D=(torch.zeros(1, 1, 48),) * 6),
            audio_tokens_BTE=values["audio"],
            audio_projections=values["projections"],
        )


@pytest.mark.host
def test_the_same_forward_on_the_hosts_module_tree(model, host):
    """Host network, host layers, host attention: equal to our own network and, whole clip, to the host's forward."""
    import comfy.ops
    from comfy.ldm.modules.attention import optimized_attention
    from comfy.ldm.wan.model import WanModel as HostModel

    theirs = HostModel(
        model_type="t2v", in_dim=33, dim=48, ffn_dim=64, text_dim=16, num_heads=2, num_layers=6,
        device="cpu", dtype=torch.float32, operations=comfy.ops.manual_cast,
    ).requires_grad_(False)  # fmt: skip
    state = {key: value for key, value in model.state_dict().items() if not key.startswith("audio_")}
    theirs.load_state_dict(state, strict=True)
    x, text, audio = inputs()
    timesteps = torch.full((1, 6), 500.0)

    def attention(q, k, v, heads):
        return optimized_attention(q, k, v, heads=heads)

    options = {"timestep_BT": timesteps, "text_BMD": text, "attention": attention}
    ours = run(model, x, text, audio)
    grafted = wan_forward(
        theirs, x, audio_tokens_BTE=audio, audio_projections=model.audio_cond_projs, **options
    )
    torch.testing.assert_close(grafted, ours, rtol=0, atol=1e-5)
    silent = wan_forward(theirs, x, **options)
    torch.testing.assert_close(silent, theirs(x, timesteps, text), rtol=0, atol=1e-4)
