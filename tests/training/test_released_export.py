"""A tiny student trained here, written as LiveTalk and Lip Forcing are, streams in the host as its rollout did."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from talkstream.model_loaders.build import open_student
from talkstream.networks.profile import LIPFORCING, LIVETALK
from talkstream.networks.wan import WanConfig
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.reference import ReferenceLatents
from talkstream.streaming.session import StreamSession
from talkstream.streaming.spec import StreamSpec
from talkstream.tests import layouts
from talkstream.tests.golden.test_livetalk_streaming import GivenSpeech
from talkstream.tests.streaming.parts import latents_of
from talkstream.tests.training.tiny_world import random_student
from talkstream.training.data import LatentBank, draw_batch
from talkstream.training.export import export_released
from talkstream.training.finetune import FinetuneSettings, FinetuneStage
from talkstream.training.rollout import Rollout, roll_out
from talkstream.training.student import TrainableStudent

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

LATENTS, FEATURES, RATE = 12, 14 * 768, 16000
SIZES = {"dim": 128, "ffn_dim": 64, "text_dim": 16}


def network(*, in_dim: int) -> WanConfig:
    """The smallest network of the released layout: one head, as many audio inputs as wav2vec2 gives."""
    return WanConfig(in_dim=in_dim, num_heads=1, num_layers=4, audio_in=4 * FEATURES, **SIZES)


def bank(clips: int, *, lip_sync: bool = False) -> LatentBank:
    """Random clips with vectors of wav2vec2's width instead of mel."""
    random = np.random.default_rng(5)
    frames = 4 * LATENTS - 3
    latents, source, masked = (
        random.standard_normal((clips, 16, LATENTS, 4, 4)).astype(np.float16) for _ in range(3)
    )
    vectors = random.standard_normal((clips, 1, frames, FEATURES)).astype(np.float16)
    seen = (source, masked) if lip_sync else (None, None)
    return LatentBank(latents, vectors, random.random((clips, frames, 5)).astype(np.float32), *seen)


def trained(*, lip_sync: bool = False) -> TrainableStudent:
    """A student after two steps, so that no part of it is as it began."""
    clips, profile = bank(2, lip_sync=lip_sync), LIPFORCING if lip_sync else LIVETALK
    stage = FinetuneStage(
        FinetuneSettings(batch=1), clips, clips, network=network(in_dim=65 if lip_sync else 33), speech=None,
        cache=profile.cache_spec, sigmas=profile.sigmas,
    )  # fmt: skip
    for step in range(2):
        stage.step(step, 0.5)
    return stage.student


@pytest.mark.parametrize("lip_sync", [False, True], ids=["livetalk", "lipforcing"])
def test_the_file_has_the_released_names_and_is_known_by_them(tmp_path, lip_sync):
    student = trained(lip_sync=lip_sync)
    prefix, name = ("_core.", "student.pth") if lip_sync else ("", "student.safetensors")
    export_released(tmp_path / name, student, prefix=prefix, dtype=torch.float32)
    opened = open_student(tmp_path / name)
    shapes = {key: tuple(shape) for key, shape in opened.tensors.shapes.items()}
    assert shapes == layouts.student(layers=4, in_dim=65 if lip_sync else 33, **SIZES)
    assert opened.profile.name == ("lipforcing" if lip_sync else "livetalk")
    assert opened.config == student.network.config
    stored = {**opened.wan_tensors(), **opened.audio_tensors()}
    for key, tensor in student.network.state_dict().items():
        assert torch.equal(stored[key], tensor), key


def test_stored_in_bf16_as_released(tmp_path):
    student = trained()
    export_released(tmp_path / "student.safetensors", student)
    stored = open_student(tmp_path / "student.safetensors").wan_tensors()
    weight = student.network.blocks[1].ffn[0].weight
    assert torch.equal(stored["blocks.1.ffn.0.weight"], weight.bfloat16())


@pytest.mark.host
def test_load_student_streams_what_the_rollout_made(host, tmp_path):
    """One call in float32 within 1e-5; four chunks, which training makes in bfloat16, within its roundings."""
    from talkstream.nodes.host.graft import HostNetwork, audio_modules
    from talkstream.nodes.host.memory import load_together
    from talkstream.nodes.host.student import load_student

    student = trained().eval().requires_grad_(False)
    export_released(tmp_path / "student.safetensors", student, dtype=torch.float32)
    model, opened = load_student(tmp_path / "student.safetensors", profile="livetalk", precision="fp32")
    load_together([model, *model.get_nested_additional_models()], extra_bytes=0)
    batch = draw_batch(bank(2), np.random.default_rng(0), clips=1, latents=LATENTS)
    speech = student.features(batch.mel)
    noise, drawn = _recorded(chunks=LATENTS // 3)
    schedule = Schedule.from_sigmas(LIVETALK.sigmas, rounding="bf16")
    rollout = Rollout(
        student, schedule=schedule, cache=LIVETALK.cache_spec, condition=batch.condition, speech_BTV=speech,
        generator=drawn,
    )  # fmt: skip
    made = roll_out(rollout, LATENTS // 3)
    spec = StreamSpec(
        profile=LIVETALK, schedule=schedule, cache_spec=LIVETALK.cache_spec, latent_height=4, latent_width=4,
        samples=(4 * LATENTS - 3) * RATE // 16, sample_rate=RATE,
    )  # fmt: skip
    text = torch.randn(1, 3, SIZES["text_dim"])  # the student was trained without: it says the same under any
    with torch.inference_mode(), HostNetwork(model, text_BMD=text) as network:
        tokens = audio_modules(model).audio_proj(speech)
        _same_velocity(network, student, batch.condition, speech, tokens)
        session = StreamSession(
            spec, network, cache=network.make_cache(spec.cache_spec, spec.grid), speech=GivenSpeech(tokens),
            reference=ReferenceLatents.for_profile(batch.condition.reference_BC1HW, LIVETALK), noise=noise,
        )  # fmt: skip
        streamed = latents_of(session)
    assert made.std() > 0.3
    torch.testing.assert_close(streamed, made, atol=0.06, rtol=0.03)


def _recorded(*, chunks: int) -> tuple[RecordedNoise, torch.Generator]:
    """What a rollout draws from the generator, written down for a session."""
    generator = torch.Generator().manual_seed(11)
    draws = {
        (chunk, step): torch.randn((1, 16, 3, 4, 4), generator=generator)
        for chunk in range(chunks)
        for step in range(4)
    }
    return RecordedNoise(draws), torch.Generator().manual_seed(11)


def _same_velocity(network, student, condition, speech, tokens):
    cache = network.make_cache(LIVETALK.cache_spec, (2, 2))
    cache.begin_chunk(3)
    cache.begin_pass(0)
    x = torch.cat([torch.randn(1, 16, 3, 4, 4), condition.channels(range(3))], dim=1)
    got = network.velocity(x, timestep=936.0, audio_tokens_BTE=tokens[:, :3], cache=cache)
    wanted = student(x, timestep_BT=torch.full((1, 1), 936.0), speech_BTV=speech[:, :3])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


def test_a_student_that_such_a_file_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="own speech encoder"):
        export_released(tmp_path / "a.safetensors", random_student())
    with pytest.raises(ValueError, match="released students are"):
        export_released(tmp_path / "a.bin", random_student())
    sizes = {"dim": 32, "ffn_dim": 16, "num_layers": 4, "text_dim": 8}
    for config, message in (
        (WanConfig(in_dim=33, num_heads=1, audio_in=4 * FEATURES, **sizes), "heads of 128"),
        (WanConfig(in_dim=17, num_heads=1, audio_in=4 * FEATURES, **(sizes | {"dim": 128})), "33 or 65"),
        (WanConfig(in_dim=33, num_heads=1, audio_in=40, **(sizes | {"dim": 128})), "multiple of 56"),
    ):
        student = TrainableStudent(config, None, torch.Generator().manual_seed(0))
        with pytest.raises(ValueError, match=message):
            export_released(tmp_path / "a.safetensors", student)
    assert not any(tmp_path.iterdir())
