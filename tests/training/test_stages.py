"""Stages on tiny configurations: a resumed run is the uninterrupted one, losses reach what they should."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.networks.causal_vae import WAN_LATENT_STD
from talkstream.tests.training.tiny_world import (
    CACHE,
    LIPSYNC_NETWORK,
    NETWORK,
    SIGMAS,
    SPEECH,
    flat_state,
    random_bank,
    random_student,
)
from talkstream.training.codec import CodecSettings, CodecStage, to_tensor
from talkstream.training.config import Recipe, StageRecipe
from talkstream.training.finetune import FinetuneSettings, FinetuneStage
from talkstream.training.stages import build_stage
from talkstream.training.sync_stage import SyncNetSettings, SyncNetStage
from talkstream.training.syncnet import SyncNetConfig, load_syncnet
from talkstream.training.trainer import Budget, learning_rate_share, train
from talkstream.training.world.dataset import Dataset, DatasetSize, load

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning", "ignore:The given NumPy array")


def _finetune():
    settings = FinetuneSettings(batch=2)
    return FinetuneStage(
        settings,
        random_bank(3),
        random_bank(2, seed=1),
        network=NETWORK,
        speech=SPEECH,
        cache=CACHE,
        sigmas=SIGMAS,
    )


def _lipsync_finetune():
    banks = (random_bank(3, lip_sync=True), random_bank(2, seed=1, lip_sync=True))
    settings = FinetuneSettings(batch=2, reading_share=3.0, reader_steps=2)
    stage = FinetuneStage(
        settings, *banks, network=LIPSYNC_NETWORK, speech=SPEECH, cache=CACHE, sigmas=SIGMAS
    )
    stage.start_from(random_student().state_dict())
    return stage


def _codec():
    random = np.random.default_rng(0)
    data = Dataset(
        random.integers(0, 255, (2, 53, 32, 32, 3), dtype=np.uint8),
        np.zeros((2, 16000), np.float16),
        np.zeros((2, 53, 5), np.float32),
    )
    return CodecStage(CodecSettings(dim=4, phases=((1.0, ((16, 5, 2),)),)), data, data)


def _syncnet():
    data = replace(
        _codec()._data, samples=np.random.default_rng(1).normal(0, 0.1, (2, 53 * 640)).astype(np.float16)
    )
    config = SyncNetConfig(lips=(4, 4, 4), frame=8, speech=(8, 8), width=8)
    return SyncNetStage(SyncNetSettings(clips=2, frames=8, versions=2), data, data, config=config)


@pytest.mark.parametrize("make", [_codec, _finetune, _lipsync_finetune, _syncnet])
def test_resumed_equals_uninterrupted(make, tmp_path):
    budget = Budget(steps=4)
    whole = make()
    train(whole, budget, tmp_path / "whole")
    train(make(), budget, tmp_path / "parts", stop_after_steps=2)
    resumed = make()
    train(resumed, budget, tmp_path / "parts")
    wanted = flat_state(whole.state_dict())
    got = flat_state(resumed.state_dict())
    assert wanted.keys() == got.keys()
    for name, tensor in wanted.items():
        assert torch.equal(torch.as_tensor(tensor), torch.as_tensor(got[name])), name


def test_hearing_only_changes_what_tokens_pass_through():
    stage = FinetuneStage(
        FinetuneSettings(batch=2, hearing_only=True), random_bank(3), random_bank(2, seed=1),
        network=NETWORK, speech=SPEECH, cache=CACHE, sigmas=SIGMAS,
    )  # fmt: skip
    stage.start_from(random_student().state_dict())
    before = {name: tensor.clone() for name, tensor in stage.student.state_dict().items()}
    for step in range(2):
        stage.step(step, 0.0)
    after = stage.student.state_dict()
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed == {
        n for n in before if n.startswith(("network.audio_proj.", "network.audio_cond_projs."))
    }
    assert [type(optimiser) for optimiser in stage.optimisers] == [torch.optim.AdamW]


def test_finetune_learns_a_constant_clip():
    """Where every clip is the same and still, the flow loss falls well below the variance of the noise."""
    bank = random_bank(1)
    bank.latents[:] = bank.latents[:, :, :1]
    stage = FinetuneStage(
        FinetuneSettings(batch=2, matrix_lr=0.05, other_lr=0.02),
        bank, bank, network=NETWORK, speech=SPEECH, cache=CACHE, sigmas=SIGMAS,
    )  # fmt: skip
    losses = [stage.step(step, 0.0)["causal"] for step in range(60)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_a_student_with_a_cache_per_step_sees_one_level():
    """Every chunk of a sequence is at one level, the sink in front clean; odd layers have a mask without history."""
    cache = replace(
        CACHE, history=(6, 0), sink=1, mode="per_step", sink_source="reference_then_first_generated"
    )
    stage = FinetuneStage(
        FinetuneSettings(batch=2), random_bank(2), random_bank(2), network=NETWORK, speech=SPEECH, cache=cache,
        sigmas=SIGMAS,
    )  # fmt: skip
    forward, calls = stage.student.forward, []
    stage.student.forward = lambda x, **given: (calls.append(given), forward(x, **given))[1]
    assert all(math.isfinite(stage.step(step, 0.0)["causal"]) for step in range(3))
    for given in calls:
        level = given["timestep_BT"]
        assert (level[:, 0] == 0).all() and (level[:, 1:] == level[:, 1:2]).all() and (level[:, 1] > 0).all()
        even, odd = given["attention_mask_LL"]
        last = -3 * 4
        assert even[last:].all() and odd[last:, :4].all() and odd[last:, last:].all()
        assert not odd[last:, 4:last].any()
    dubbed = random_bank(2, lip_sync=True)
    with pytest.raises(ValueError, match="use a sink of first_latents"):
        FinetuneStage(
            FinetuneSettings(),
            dubbed,
            dubbed,
            network=LIPSYNC_NETWORK,
            speech=SPEECH,
            cache=cache,
            sigmas=SIGMAS,
        )


def test_learning_rate_rises_then_falls_to_zero():
    shares = [learning_rate_share(p, warmup=0.1) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert shares == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0], abs=1e-9)


def test_a_budget_is_seconds_or_steps():
    with pytest.raises(ValueError, match="exactly one"):
        Budget(seconds=5, steps=5)
    assert Budget(steps=10).scaled(0.5).steps == 5


def test_a_broken_loss_stops_the_run(tmp_path):
    stage = _finetune()
    with torch.no_grad():
        stage.student.network.patch_embedding.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="causal is nan"):
        train(stage, Budget(steps=3), tmp_path)


def test_a_codec_stage_continues_the_one_before(tmp_path):
    """Same pictures as the first stage's last weights, latents with Wan's statistics."""
    data = _codec()._data
    for name in ("frames", "samples", "mouth"):
        np.save(tmp_path / f"{name}.npy", getattr(data, name))
    (tmp_path / "dataset.json").write_text("{}")
    settings = CodecSettings(dim=4, phases=((1.0, ((16, 5, 2),)),))
    part = StageRecipe("codec", settings, Budget(steps=1), Budget(steps=1))
    size = DatasetSize(clips=2, frames=53, side=32)
    recipe = Recipe(tmp_path, size, tmp_path, size, tmp_path, (part, replace(part, name="again")))
    first = build_stage(recipe, 0, device=torch.device("cpu"))
    train(first, Budget(steps=1), tmp_path / "codec")
    second = build_stage(recipe, 1, device=torch.device("cpu"))
    clip = to_tensor(data.frames[:1, :5])
    with torch.no_grad():
        shown, again = (stage.vae.decode(stage.vae.encode(clip)) for stage in (first, second))
        latents = torch.cat([second.vae.encode(to_tensor(data.frames[i : i + 1])) for i in range(2)])
    torch.testing.assert_close(again, shown, atol=1e-4, rtol=1e-4)
    deviation = latents.std((0, 2, 3, 4)) / torch.tensor(WAN_LATENT_STD)
    assert ((deviation > 0.8) & (deviation < 1.25)).all()


@pytest.mark.parametrize("make", [_finetune, _lipsync_finetune])
def test_the_ear_stays_as_it_was(make):
    stage = make()
    before = {name: tensor.clone() for name, tensor in stage.student.encoder.state_dict().items()}
    stage.step(0, 0.5)
    assert all(
        torch.equal(before[name], tensor) for name, tensor in stage.student.encoder.state_dict().items()
    )


def test_a_syncnet_recipe_leaves_a_network_that_loads(tmp_path):
    """Its stage reads the mouth boxes of the data; what it saved is what is loaded."""
    data = _syncnet()._data
    arrays = {"frames": data.frames, "samples": data.samples, "mouth": data.mouth}
    for name, array in {**arrays, "place": np.full((2, 53, 4), 0.5, np.float32)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "dataset.json").write_text("{}")
    assert load(tmp_path).place.shape == (2, 53, 4)
    part = StageRecipe("syncnet", SyncNetSettings(clips=1, frames=8), Budget(steps=1), Budget(steps=1))
    size = DatasetSize(clips=2, frames=53, side=32)
    recipe = Recipe(tmp_path, size, tmp_path, size, tmp_path, (part,))
    stage = build_stage(recipe, 0, device=torch.device("cpu"))
    train(stage, Budget(steps=1), tmp_path / part.folder)
    loaded = load_syncnet(tmp_path / part.folder)
    for name, tensor in stage.syncnet.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert not any(p.requires_grad for p in loaded.parameters())
