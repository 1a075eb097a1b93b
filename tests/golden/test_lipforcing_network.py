"""Lip Forcing's network (65 channels, window 7, sink 1) against its reference implementation."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.kv_cache import CacheSpec, GrowingKVCache, RingKVCache
from talkstream.networks.masks import chunk_causal_mask
from talkstream.networks.profile import PROFILES
from talkstream.networks.wan import WanModel
from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.schedule import Schedule
from talkstream.tests import layouts
from talkstream.tests.golden.test_livetalk_network import SIZES_1_3B, SIZES_14B, published
from talkstream.tests.golden.wan_golden import Golden, Stream, build, close


@pytest.fixture(scope="module")
def golden(golden_file) -> Golden:
    return Golden(golden_file("lipforcing_tiny.safetensors"))


@pytest.fixture(scope="module")
def model(golden) -> WanModel:
    return build(golden)


@pytest.fixture(scope="module")
def audio(golden, model):
    return model.audio_proj(pack_vectors(golden["in.audio_emb"], prefix_copies=3))


@pytest.fixture(scope="module")
def channels(golden):
    """Reference latent, mask (1 = generate), masked video and reference sequence: (1, 49, T, H, W)."""
    video = golden["in.masked_video"]
    latents = video.shape[2]
    reference = golden["in.ref_latent"].expand(-1, -1, latents, -1, -1)
    mask = (1 - golden["in.mask"])[None, None, None].expand(1, 1, latents, -1, -1)
    return torch.cat([reference, mask, video, golden["in.ref_sequence"]], dim=1)


def spec_of(golden, sink_rule="before_window") -> CacheSpec:
    chunk, window, sink = (golden.config[key] for key in ("chunk", "window", "sink"))
    steps = len(golden.config["t_list"]) - 1
    return CacheSpec(
        chunk=chunk, sink=sink, history=(window - sink - chunk,), sink_rule=sink_rule, steps=steps
    )


def stream_of(golden, model, channels, audio, *, sink_rule="before_window", cache_type=RingKVCache) -> Stream:
    return Stream(
        model,
        spec_of(golden, sink_rule),
        size=tuple(golden["in.noise"].shape[-2:]),
        text_BMD=golden["in.text_embeds"],
        channels_BCTHW=channels,
        audio_BTE=audio,
        cache_type=cache_type,
    )


def rollout(golden, stream: Stream) -> tuple[torch.Tensor, dict]:
    """All chunks, closed loop, recorded noise: latents and, by chunk and step, inputs and predictions."""
    schedule = Schedule.from_sigmas(golden.config["t_list"])
    done, seen = [], {}
    for chunk in range(golden["in.noise"].shape[2] // stream.spec.chunk):
        stream.cache.begin_chunk(stream.spec.chunk)
        part = slice(stream.cache.positions()[0], stream.cache.positions()[-1] + 1)

        def velocity(x, timestep, step, chunk=chunk):
            seen[chunk, step, "x_in"] = x
            return stream.velocity(x, timestep, step)

        x0 = denoise_chunk(
            velocity,
            golden["in.noise"][:, :, part],
            schedule=schedule,
            renoise=lambda step, part=part: golden[f"in.eps_step{step + 1}"][:, :, part],
            on_step=lambda step, x0, chunk=chunk: seen.__setitem__((chunk, step, "x0"), x0),
        )
        stream.clean(x0)
        stream.cache.end_chunk()
        done.append(x0)
    return torch.cat(done, dim=2), seen


@pytest.mark.parametrize("cache_type", [RingKVCache, GrowingKVCache])
def test_rollout_with_window_local_positions(golden, model, channels, audio, cache_type):
    """The released behaviour, and every chunk's inputs and predictions on the way."""
    stream = stream_of(golden, model, channels, audio, cache_type=cache_type)
    latents, seen = rollout(golden, stream)
    close(latents, golden["out.rollout_window7_sink1_dynamic_rope"], 1e-4)
    recorded = list(golden.names("dynamic.chunk"))
    assert recorded
    for key in recorded:
        _, chunk, step, part = key.split(".")
        ours = seen[int(chunk.removeprefix("chunk")), int(step.removeprefix("step")), part]
        close(ours, golden[key], 1e-4)


def test_teacher_forced_predictions(golden, model, channels, audio):
    """Each recorded input, with the recorded past, gives the recorded prediction."""
    stream = stream_of(golden, model, channels, audio)
    sigmas = golden.config["t_list"][:-1]
    for chunk in range(golden["in.noise"].shape[2] // stream.spec.chunk):
        stream.cache.begin_chunk(stream.spec.chunk)
        for step, sigma in enumerate(sigmas):
            key = f"dynamic.chunk{chunk}.step{step}"
            x = golden[f"{key}.x_in"]
            x0 = (x.double() - sigma * stream.velocity(x, 1000 * sigma, step).double()).float()
            close(x0, golden[f"{key}.x0"], 1e-5)
        stream.clean(golden[f"dynamic.chunk{chunk}.step{len(sigmas) - 1}.x0"])
        stream.cache.end_chunk()


def test_rollout_with_absolute_positions(golden, model, channels, audio):
    latents, _ = rollout(golden, stream_of(golden, model, channels, audio, sink_rule="absolute"))
    close(latents, golden["out.rollout_window7_sink1_absolute_rope"], 1e-4)


def whole_clip(golden, model, channels, audio, sigma=0.769, **options) -> torch.Tensor:
    """x0 of one forward over all latents, the recorded noise as the noisy input."""
    x = golden["in.noise"]
    timesteps = torch.full(x.shape[:1] + x.shape[2:3], 1000 * sigma)
    velocity = model(
        torch.cat([x, channels], dim=1),
        timestep_BT=timesteps,
        text_BMD=golden["in.text_embeds"],
        audio_tokens_BTE=audio,
        **options,
    )
    return (x.double() - sigma * velocity.double()).float()


def test_bidirectional_clip(golden, model, channels, audio):
    """The teacher is the same network without a window."""
    close(whole_clip(golden, model, channels, audio), golden["out.bidirectional_t769_x0"], 1e-5)


def test_full_sequence_with_a_chunk_causal_mask(golden, model, channels, audio):
    tokens = golden["in.noise"][0, 0, 0, ::2, ::2].numel()
    mask = chunk_causal_mask(spec_of(golden, "absolute"), golden["in.noise"].shape[2], tokens)
    x0 = whole_clip(golden, model, channels, audio, attention_mask_LL=mask)
    close(x0, golden["out.full_sequence_absolute_rope_t769_x0"], 1e-5)


def test_full_sequence_is_a_stream_that_keeps_noisy_latents(golden, model, channels, audio):
    """Stored at t = .769 instead of clean, a stream with absolute positions is the masked clip."""
    stream = stream_of(golden, model, channels, audio, sink_rule="absolute")
    sigma, chunk = 0.769, stream.spec.chunk
    for start in range(0, golden["in.noise"].shape[2], chunk):
        stream.cache.begin_chunk(chunk)
        x = golden["in.noise"][:, :, start : start + chunk]
        x0 = (x.double() - sigma * stream.velocity(x, 1000 * sigma, 0).double()).float()
        stream.cache.end_chunk()
        expected = golden["out.full_sequence_absolute_rope_t769_x0"][:, :, start : start + chunk]
        close(x0, expected, 1e-5)


def test_names_and_shapes_are_those_of_the_written_list():
    for sizes, tensors in ((SIZES_1_3B, 857), (SIZES_14B, 1137)):
        state = published(sizes, in_dim=65).state_dict()
        assert len(state) == tensors
        layout = layouts.student(
            dim=sizes["dim"], ffn_dim=sizes["ffn_dim"], layers=sizes["num_layers"], in_dim=65
        )
        assert {key: tuple(value.shape) for key, value in state.items()} == dict(layout)


def test_the_profile_is_the_released_setting(golden):
    profile = PROFILES["lipforcing"]
    assert list(profile.sigmas) == golden.config["t_list"]
    assert profile.cache_spec == spec_of(golden)
    schedule = Schedule.from_sigmas(profile.sigmas, rounding=profile.timestep_rounding)
    assert schedule.timesteps == (999.0, 769.0)
