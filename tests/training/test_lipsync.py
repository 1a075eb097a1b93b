"""The lip-sync student: what it sees, what it starts from, and what it is trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from talkstream.benchmarks.lipsync_quality import paste
from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.networks.speech_encoder import MEL_PER_FRAME, SpeechEncoderConfig
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.mouth_mask import MouthMask
from talkstream.tests.training.tiny_world import (
    CACHE,
    LIPSYNC_NETWORK,
    NETWORK,
    SIGMAS,
    random_bank,
    random_student,
)
from talkstream.training.conditions import LipSyncCondition, PortraitCondition
from talkstream.training.data import encode_clips, load_bank, make_lipsync_bank, save_bank
from talkstream.training.mini import MEL, mini_profile
from talkstream.training.mini_lipsync import lipsync_profile
from talkstream.training.rollout import Rollout, roll_out
from talkstream.training.sampling import Mini, dub_frames, video_condition
from talkstream.training.student import TrainableStudent, widen_input
from talkstream.training.world.dataset import Dataset, DatasetSize, generate_dubbed, load
from talkstream.training.world.voices import is_available

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning", "ignore:The given NumPy array")


def _condition(batch=2, latents=9):
    generator = torch.Generator().manual_seed(5)
    source, masked = (torch.randn(batch, 16, latents, 4, 4, generator=generator) for _ in range(2))
    return LipSyncCondition(source, masked, torch.tensor([[0.0] * 4, [0.0] * 4, [1.0] * 4, [1.0] * 4]))


def test_channels_are_reference_mask_masked_source():
    condition = _condition()
    known = condition.channels([0, 1, 2, 6])
    assert known.shape == (2, 49, 4, 4, 4)
    for place, latent in enumerate([0, 1, 2, 6]):
        assert torch.equal(known[:, :16, place], condition.source_BCTHW[:, :, 0])
        assert torch.equal(known[:, 17:33, place], condition.masked_BCTHW[:, :, latent])
        assert torch.equal(known[:, 33:, place], condition.source_BCTHW[:, :, latent])
    assert torch.equal(known[:, 16], condition.mask_HW.expand(2, 4, 4, 4))
    x = torch.randn(2, 16, 3, 4, 4)
    assert condition.clamp(x) is x


def test_a_widened_student_starts_as_the_one_before():
    """With every new weight 0, what the new channels hold makes no difference to what the network says."""
    old = random_student()
    wide = TrainableStudent(LIPSYNC_NETWORK, old.encoder.config, torch.Generator().manual_seed(1))
    wide.load_state_dict(widen_input(old.state_dict(), 65))
    x, reference = torch.randn(1, 16, 3, 4, 4), torch.randn(1, 16, 1, 4, 4)
    tokens, text = torch.randn(1, 3, NETWORK.audio_hidden), old.null_text(torch.zeros(()))
    known = PortraitCondition(reference).channels([3, 4, 5])
    inputs = {"timestep_BT": torch.full((1, 1), 500.0), "text_BMD": text, "audio_tokens_BTE": tokens}
    said = old.network(torch.cat([x, known], 1), **inputs)
    again = wide.network(torch.cat([x, known, torch.randn(1, 32, 3, 4, 4)], 1), **inputs)
    torch.testing.assert_close(again, said, atol=1e-5, rtol=1e-5)
    assert said.std() > 0.01


def test_a_rollout_makes_every_latent_from_its_own_video():
    """Nothing is clamped, and latents of the video are read in step with the stream."""
    student = random_student(network=LIPSYNC_NETWORK).requires_grad_(False)
    condition, speech = _condition(), torch.randn(2, 9, NETWORK.audio_in)

    def rolled(condition):
        rollout = Rollout(
            student, schedule=Schedule.from_sigmas(SIGMAS), cache=CACHE, condition=condition, speech_BTV=speech,
            generator=torch.Generator().manual_seed(2),
        )  # fmt: skip
        return roll_out(rollout, 3)

    first = rolled(condition)
    assert not torch.equal(first[:, :, :1], condition.reference_BC1HW)
    later = condition.masked_BCTHW.clone()
    later[:, :, 6:] += 1.0
    changed = rolled(replace(condition, masked_BCTHW=later))
    assert torch.equal(changed[:, :, :6], first[:, :, :6])
    assert (changed[:, :, 6:] - first[:, :, 6:]).abs().min(dim=1).values.max() > 0


def test_bank_keeps_source_and_blanked_source_beside_the_dub(tmp_path):
    random = np.random.default_rng(0)
    shape = (2, 5, 32, 32, 3)
    frames, dubbed = (random.integers(0, 255, shape, dtype=np.uint8) for _ in range(2))
    samples, mouth = random.standard_normal((2, 3200)).astype(np.float16), np.zeros((2, 5, 5), np.float32)
    vae = CausalVAE(VAEConfig(dim=4)).requires_grad_(False)
    made = make_lipsync_bank(
        Dataset(frames, samples, mouth), Dataset(dubbed, samples[::-1].copy(), mouth), vae, MEL, versions=2
    )
    save_bank(tmp_path / "bank.npz", made)
    bank = load_bank(tmp_path / "bank.npz")
    assert bank.latents.shape == bank.source.shape == bank.masked.shape == (4, 16, 2, 4, 4)
    assert bank.mel.shape[:3] == (4, 2, 5 * MEL_PER_FRAME)
    gap = encode_clips(vae, frames) - encode_clips(vae, dubbed)
    found = torch.from_numpy(bank.source[:2].astype(np.float32) - bank.latents[:2].astype(np.float32))
    assert torch.corrcoef(torch.stack([gap.flatten(), found.flatten()]))[0, 1] > 0.9
    condition = bank.condition(np.array([1, 0]), 1)
    assert torch.equal(condition.mask_HW, MouthMask.drawn().latents(4, 4))
    assert torch.equal(condition.source_BCTHW, torch.from_numpy(bank.source[[1, 0], :, :1]).float())


def test_a_lipsync_bank_dubs_both_ways():
    """What was drawn again becomes the source, and the clip with its own speech and mouth what is to be made."""
    random = np.random.default_rng(0)
    frames, dubbed = (random.integers(0, 255, (2, 5, 32, 32, 3), dtype=np.uint8) for _ in range(2))
    samples, mouth = random.standard_normal((2, 3200)), random.random((2, 5, 5))
    vae = CausalVAE(VAEConfig(dim=4)).requires_grad_(False)
    clips, again = Dataset(frames, samples, mouth), Dataset(dubbed, samples[::-1], mouth[::-1])
    bank = make_lipsync_bank(clips, again, vae, MEL, versions=1)
    assert np.array_equal(bank.latents[2:], bank.source[:2])
    assert np.array_equal(bank.source[2:], bank.latents[:2])
    assert np.array_equal(bank.masked[2:], bank.masked[:2])
    assert np.array_equal(bank.mel[2:], bank.mel[[1, 0]])
    assert np.array_equal(bank.mouth[2:], bank.mouth[[1, 0]])


def test_a_portrait_bank_gives_portrait_conditions():
    bank = random_bank(2)
    condition = bank.condition(np.array([1]), 6)
    assert isinstance(condition, PortraitCondition) and condition.clamped
    assert condition.reference_BC1HW.shape == (1, 16, 1, 4, 4)


def test_profile_is_the_minis_with_nothing_given():
    profile = lipsync_profile()
    assert profile.name == "talkstream_mini_lipsync"
    assert not profile.clamp_first_latent and profile.first_mask_bit == profile.later_mask_bit == 1
    assert profile.cache_spec == mini_profile().cache_spec
    assert profile.speech == mini_profile().speech


def _tiny_mini():
    """A lip-sync student of random weights for pictures of 32 pixels, with the Mini's ear for sound."""
    speech = SpeechEncoderConfig(bins=MEL.bins, width=8)
    student = TrainableStudent(LIPSYNC_NETWORK, speech, torch.Generator().manual_seed(0))
    with torch.no_grad():
        student.network.head.head.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    vae = CausalVAE(VAEConfig(dim=4)).requires_grad_(False)
    return Mini(student.requires_grad_(False), vae, replace(lipsync_profile(), width=32, height=32))


def test_a_dub_has_the_videos_frames_and_keeps_what_is_outside_the_mask():
    """A video that ends inside a chunk is dubbed to its last frame; pasted, nothing outside the mask has changed."""
    random = np.random.default_rng(3)
    video = random.integers(0, 255, (11, 32, 32, 3), dtype=np.uint8)
    voice = random.standard_normal(11 * 640).astype(np.float32)
    mini = _tiny_mini()
    condition = video_condition(mini, video)
    assert condition.source_BCTHW.shape == condition.masked_BCTHW.shape == (1, 16, 6, 4, 4)
    generated = dub_frames(mini, voice, video)
    assert generated.shape == video.shape and generated.std() > 0
    pasted = paste(generated, video)
    outside = MouthMask.drawn().soft(32, 32).numpy() == 0
    assert np.array_equal(pasted[:, outside], video[:, outside])
    inside = MouthMask.drawn().soft(32, 32).numpy() == 1
    assert np.array_equal(pasted[:, inside], generated[:, inside])


@pytest.mark.skipif(not is_available(), reason="libespeak-ng is not installed")
def test_a_dubbed_clip_differs_in_its_mouth_alone(tmp_path):
    from talkstream.training.world.clips import dubbed_frames, random_clip

    clips = [random_clip(seed, 13, side=48, held_out=False, motion="spoken") for seed in (8, 9)]
    for name in ("frames", "samples", "mouth", "pose", "place"):
        np.save(tmp_path / f"{name}.npy", np.stack([getattr(clip, name) for clip in clips]))
    np.save(tmp_path / "domain.npy", np.zeros(2, np.int8))
    own = clips[0]
    same = dubbed_frames(8, own.pose, own.mouth, side=48, held_out=False)
    assert np.array_equal(same, own.frames)
    size = DatasetSize(clips=2, frames=13, side=48, first_seed=8, motion="spoken")
    (tmp_path / "dataset.json").write_text(json.dumps(asdict(size)))
    generate_dubbed(tmp_path / "dubbed", tmp_path, workers=1)
    dubbed = load(tmp_path / "dubbed")
    assert np.array_equal(dubbed.mouth[0], clips[1].mouth)
    assert np.array_equal(dubbed.samples[1], clips[0].samples.astype(dubbed.samples.dtype))
    assert np.array_equal(dubbed.pose[1], clips[1].pose) and np.array_equal(dubbed.place[0], clips[0].place)
    changed = (dubbed.frames[0] != clips[0].frames).any(axis=(0, 3))
    assert changed.any() and not changed[~MouthMask.drawn().pixels(48, 48).numpy()].any()
