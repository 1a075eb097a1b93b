"""LiveTalk's network against its reference implementation: names, flows, caches, whole runs."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.kv_cache import CacheSpec, GrowingKVCache, RingKVCache
from talkstream.networks.profile import PROFILES
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.schedule import Schedule
from talkstream.tests import layouts
from talkstream.tests.golden.wan_golden import Golden, Recorder, Stream, build, close

KEY_HASH_1_3B = "2bf9513c7a3e908015f11a800fc9b820"
KEY_HASH_14B = "883a90b12576b9b8693a08cf690998dd"
SIZES_1_3B = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
SIZES_14B = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}


@pytest.fixture(scope="module")
def golden(golden_file) -> Golden:
    return Golden(golden_file("livetalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def model(golden) -> WanModel:
    return build(golden)


def published(sizes: dict[str, int], in_dim: int = 33) -> WanModel:
    """A network of published size, without memory."""
    return WanModel(WanConfig(**sizes, in_dim=in_dim, text_dim=4096, audio_in=4 * 14 * 768), device="meta")


@pytest.mark.parametrize(
    ("sizes", "key_hash", "tensors", "parameters"),
    [(SIZES_1_3B, KEY_HASH_1_3B, 857, 1_421_187_232), (SIZES_14B, KEY_HASH_14B, 1137, None)],
)
def test_names_and_shapes_give_the_published_hash(sizes, key_hash, tensors, parameters):
    """The reference's loader picks the architecture by this MD5 of sorted names and shapes."""
    state = published(sizes).state_dict()
    parts = [
        text for key, value in state.items() for text in (f"{key}:{'_'.join(map(str, value.shape))}", key)
    ]
    assert hashlib.md5(",".join(sorted(parts)).encode()).hexdigest() == key_hash
    assert len(state) == tensors
    if parameters:
        assert sum(value.numel() for value in state.values()) == parameters


def test_names_and_shapes_are_those_of_the_written_list():
    state = {key: tuple(value.shape) for key, value in published(SIZES_1_3B).state_dict().items()}
    assert state == {key: tuple(shape) for key, shape in layouts.livetalk().items()}


def reference_latent(golden):
    """Latent of the reference image, (1, 16, 1, H, W)."""
    return golden["in.img_lat"][:, :16, :1]


def audio_tokens(golden):
    return golden["in.audio_pack"][:, :, 0, 0]


def spec_of(golden, **changes) -> CacheSpec:
    chunk, window = golden.config["frames_per_block"], golden.config["local_attn_size"]
    sink = golden.config["sink_size"]
    fields = {
        "chunk": chunk,
        "sink": sink,
        "history": (window - sink - chunk,),
        "steps": len(golden["sched.sigmas"]),
    }
    return CacheSpec(**{**fields, **changes})


def stream_of(golden, model, cache_type=RingKVCache, **changes) -> Stream:
    return Stream(
        model,
        spec_of(golden, **changes),
        size=tuple(golden["in.noise"].shape[-2:]),
        text_BMD=golden["in.context"],
        channels_BCTHW=golden["in.img_lat"],
        audio_BTE=audio_tokens(golden),
        cache_type=cache_type,
    )


def chunks_of(golden) -> range:
    return range(golden["in.noise"].shape[1] // golden.config["frames_per_block"])


def in_channels_first(x_BTCHW):
    return x_BTCHW.transpose(1, 2)


def test_audio_features_to_tokens_to_embeddings(golden, model):
    features = golden["in.audio_features"][..., 0, 0].transpose(1, 2)
    tokens = model.audio_proj(pack_vectors(features, prefix_copies=0))
    close(tokens, audio_tokens(golden), 1e-5)
    close(model.audio_proj(pack_vectors(features[:, 3:], prefix_copies=3)), tokens, 1e-6)
    for i, projection in enumerate(model.audio_cond_projs):
        close(projection(tokens)[0], golden["in.audio_embed"][i, :, 0, 0], 1e-5)


@pytest.mark.parametrize("cache_type", [RingKVCache, GrowingKVCache])
def test_teacher_forced_flows(golden, model, cache_type):
    """Every recorded network input gives the recorded flow, the clean pass included."""
    stream = stream_of(golden, model, cache_type)
    steps = range(len(golden["sched.sigmas"]))
    for chunk in chunks_of(golden):
        stream.cache.begin_chunk(stream.spec.chunk)
        for step, name in [*((i, f"s{i}") for i in steps), (-1, "ctx")]:
            key = f"step.b{chunk}.{name}"
            x = in_channels_first(golden[f"{key}.x_in"])
            flow = stream.velocity(x, golden[f"{key}.timestep"], step)
            close(flow, in_channels_first(golden[f"{key}.flow"]), 1e-5)
            if name != "ctx":
                sigma = golden["sched.sigmas"][step].double()
                x0 = (x.double() - sigma * flow.double()).float()
                close(x0[:, :, 1:], in_channels_first(golden[f"{key}.x0"])[:, :, 1:], 1e-5)
        stream.cache.end_chunk()


def test_one_timestep_for_all_latents_is_the_same_as_one_each(golden, model):
    x = torch.cat([in_channels_first(golden["step.b0.s0.x_in"]), golden["in.img_lat"][:, :, :3]], dim=1)
    common = {"text_BMD": golden["in.context"], "audio_tokens_BTE": audio_tokens(golden)[:, :3]}
    each = model(x, timestep_BT=torch.full((1, x.shape[2]), 832.0), **common)
    close(model(x, timestep_BT=torch.full((1, 1), 832.0), **common), each, 1e-5)


def test_probes_inside_the_network(golden, model):
    probes = sorted({tuple(key.split(".")[1:3]) for key in golden.names("probe.")})
    assert probes
    stream = stream_of(golden, model)
    for chunk in chunks_of(golden):
        stream.cache.begin_chunk(stream.spec.chunk)
        for step, name in [*((i, f"s{i}") for i in range(stream.spec.steps)), (-1, "ctx")]:
            key = f"step.b{chunk}.{name}"
            taps, handles = tap(model) if (f"b{chunk}", name) in probes else ({}, [])
            stream.velocity(in_channels_first(golden[f"{key}.x_in"]), golden[f"{key}.timestep"], step)
            for handle in handles:
                handle.remove()
            if taps:
                compare_probes(golden, taps, f"probe.b{chunk}.{name}.")
        stream.cache.end_chunk()


def tap(model: WanModel) -> tuple[dict[str, torch.Tensor], list]:
    """Record the outputs of modules, and block outputs as inputs of the next norm less the audio in between."""
    taps, handles = {}, []

    def note(name: str, module: nn.Module) -> None:
        handles.append(module.register_forward_hook(lambda _m, _a, out: taps.__setitem__(name, out.clone())))

    for name in ("patch_embedding", "time_embedding", "time_projection"):
        note(name, getattr(model, name))
    note("block0.self_attn", model.blocks[0].self_attn.o)
    note("block0.cross_attn", model.blocks[0].cross_attn.o)
    note("head", model.head.head)
    for i, projection in enumerate(model.audio_cond_projs):
        note(f"audio{i + 2}", projection)
    norms = [block.norm1 for block in model.blocks[1:]] + [model.head.norm]
    for i, norm in enumerate(norms):
        handles.append(
            norm.register_forward_pre_hook(
                lambda _m, args, i=i: taps.__setitem__(f"block{i}", args[0].clone())
            )
        )
    return taps, handles


def compare_probes(golden, taps, prefix) -> None:
    for name, tensor in list(taps.items()):
        index = name.removeprefix("block")
        if index.isdigit() and f"audio{int(index) + 1}" in taps:
            added = taps[f"audio{int(index) + 1}"]
            taps[name] = (tensor.unflatten(1, (added.shape[1], -1)) - added[:, :, None]).flatten(1, 2)
    for key in golden.names(prefix):
        name = key.removeprefix(prefix)
        if name == "text_embedding":
            continue
        close(taps[name].reshape(golden[key].shape), golden[key], 2e-5)


def test_text_rows_through_the_text_mlp(golden, model):
    close(model.text_embedding(golden["in.context"]), golden["probe.b0.s0.text_embedding"], 1e-5)


def test_cached_keys_and_values(golden, model):
    """After a chunk's clean pass the cache holds the recorded latents: compared latent by latent, in any order."""
    stream = stream_of(golden, model)
    wanted = {tuple(key.split(".")[1:]) for key in golden.names("kv.")}
    compared = 0
    for chunk in chunks_of(golden):
        stream.cache.begin_chunk(stream.spec.chunk)
        recorder = Recorder()
        stream.clean(in_channels_first(golden[f"step.b{chunk}.ctx.x_in"]), attention=recorder)
        stream.cache.end_chunk()
        for block, layer, part in sorted(wanted):
            if block == f"b{chunk}":
                ours = recorder.calls[2 * int(layer.removeprefix("layer"))]["kv".index(part)]
                compare_as_sets(golden, ours, golden[f"kv.{block}.{layer}.{part}"])
                compared += 1
    assert compared == len(wanted) > 0


def compare_as_sets(golden, ours_BLD, reference_BLD) -> None:
    """Same latents in both, whatever the order of their slots."""
    tokens = golden.config["tokens_per_frame"]
    ours = ours_BLD[0].unflatten(0, (-1, tokens)).flatten(1)
    reference = reference_BLD[0].unflatten(0, (-1, tokens)).flatten(1)
    distance = torch.cdist(reference, ours, p=float("inf"))
    assert ours.shape == reference.shape
    assert distance.min(1).values.max() < 2e-5
    assert len(set(distance.argmin(1).tolist())) == len(reference)


def free_run(golden, model, timesteps, **changes):
    """All chunks, closed loop, recorded noise: latents (1, T, 16, H, W) and flows by (chunk, step)."""
    stream = stream_of(golden, model, **changes)
    schedule = Schedule(sigmas=(*golden["sched.sigmas"].tolist(), 0.0), timesteps=tuple(timesteps.tolist()))
    reference, done, flows = reference_latent(golden), [], {}
    for chunk in chunks_of(golden):
        stream.cache.begin_chunk(stream.spec.chunk)
        part = slice(stream.cache.positions()[0], stream.cache.positions()[-1] + 1)

        def velocity(x, timestep, step, chunk=chunk):
            flows[chunk, step] = stream.velocity(x, timestep, step)
            return flows[chunk, step]

        x0 = denoise_chunk(
            velocity,
            in_channels_first(golden["in.noise"][:, part]),
            schedule=schedule,
            renoise=lambda step, chunk=chunk: golden[f"renoise.b{chunk}.s{step}"].transpose(0, 1)[None],
            clamp=(lambda x: torch.cat([reference, x[:, :, 1:]], dim=2)) if chunk == 0 else None,
        )
        stream.clean(x0)
        stream.cache.end_chunk()
        done.append(x0)
    return torch.cat(done, dim=2).transpose(1, 2), flows


@pytest.mark.parametrize("cache_type", [RingKVCache, GrowingKVCache])
def test_free_run(golden, model, cache_type):
    latents, _ = free_run(golden, model, golden["sched.timesteps"], cache_type=cache_type)
    close(latents, golden["out.latents"], 1e-4)


def test_free_run_with_rounded_timesteps(golden, model):
    """The setting of the released student: timesteps 1000, 936, 832, 624 with exact sigmas."""
    latents, flows = free_run(golden, model, golden["sched.denoising_step_list_bf16"])
    close(latents, golden["out.latents.bf16_timesteps"], 1e-4)
    expected = in_channels_first(golden["out.latents.bf16_timesteps.step_b0s1_flow"])
    close(flows[0, 1], expected, 1e-5)


def test_free_run_with_a_full_cache(golden, model):
    latents, _ = free_run(
        golden, model, golden["sched.timesteps"], sink=0, history=(golden["in.noise"].shape[1],)
    )
    close(latents, golden["out.latents.full_cache"], 1e-4)


def test_free_run_with_a_window_and_no_sink(golden, model):
    history = golden.config["local_attn_size"] - golden.config["frames_per_block"]
    latents, _ = free_run(golden, model, golden["sched.timesteps"], sink=0, history=(history,))
    close(latents, golden["out.latents.local15_sink0"], 1e-4)


def test_the_profile_is_the_released_setting(golden):
    """Schedule, rounding and window of the built-in profile are those of the reference run."""
    profile = PROFILES["livetalk"]
    assert torch.allclose(torch.tensor(profile.sigmas[:-1]), golden["sched.sigmas"], atol=1e-7)
    schedule = Schedule.from_sigmas(profile.sigmas, rounding=profile.timestep_rounding)
    assert (
        list(schedule.timesteps) == golden["sched.denoising_step_list_bf16"].tolist() == [1000, 936, 832, 624]
    )
    assert (profile.cache_spec.window, profile.sink, profile.chunk) == (15, 9, 3)
    assert [profile.frames_in_chunk(i) for i in range(3)] == [9, 12, 12]
    assert profile.speech.features == 14 * 768
