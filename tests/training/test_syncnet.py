"""SyncNet, its loss, its scores, its reward and its perceptual distance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from talkstream.networks.causal_vae import CausalVAE, VAEConfig, denormalise_latents
from talkstream.tests.training.tiny_world import random_bank
from talkstream.training.codec_init import initialise_codec
from talkstream.training.crops import cut, mouth_boxes, mouth_crops
from talkstream.training.data import draw_batch
from talkstream.training.initialisation import initialise
from talkstream.training.mini import MEL
from talkstream.training.perceptual import features, perceptual_loss
from talkstream.training.sync_reward import SyncReward
from talkstream.training.sync_score import (
    confidence_distance_offset,
    reach,
    score_embeddings,
    score_frames,
    shift_distances,
)
from talkstream.training.sync_stage import SyncNetSettings, SyncNetStage, contrastive_loss
from talkstream.training.syncnet import RADIUS, LipTrunk, SyncNet, SyncNetConfig, load_syncnet
from talkstream.training.trainer import Budget, train
from talkstream.training.world.dataset import Dataset

TINY = SyncNetConfig(lips=(6, 8, 12), frame=16, speech=(24, 24), width=16)


def _normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _syncnet(config=TINY, seed=0):
    network = SyncNet(config)
    initialise(network, torch.Generator().manual_seed(seed))
    return network.requires_grad_(False)


def _blinking_world(clips, *, frames=45, seed=0):
    """Clips whose mouths are dark while a tone sounds, on faces of random colours."""
    random = np.random.default_rng(seed)
    is_open = np.repeat(random.random((clips, frames // 3)) < 0.5, 3, axis=1)
    pictures = np.empty((clips, frames, 32, 32, 3), np.uint8)
    pictures[:] = random.integers(120, 250, (clips, 1, 1, 1, 3))
    pictures[:, :, 20:27, 10:22] = np.where(is_open[:, :, None, None, None], 20, pictures[:, :, 20:27, 10:22])
    tone = np.sin(np.arange(frames * 640) * 2 * np.pi * 400 / 16000)
    samples = (0.3 * tone * np.repeat(is_open, 640, axis=1)).astype(np.float16)
    mouth = np.zeros((clips, frames, 5), np.float32)
    mouth[..., 0] = is_open
    return Dataset(pictures, samples, mouth)


def _stage(**settings):
    settings = {"clips": 3, "frames": 20, "versions": 1, **settings}
    return SyncNetStage(
        SyncNetSettings(**settings), _blinking_world(12), _blinking_world(4, seed=1), config=TINY
    )


def test_a_window_is_five_frames_of_lips_and_their_twenty_mel_frames():
    """Embedding i changes with frames i..i+4 and mel frames 4i..4i+19, and with no other."""
    network = _syncnet()
    pixels, mel = _normal(1, 3, 9, 32, 32).requires_grad_(), _normal(1, 36, 40).requires_grad_()
    lips, speech = network.embed_lips(pixels), network.embed_speech(mel)
    assert lips.shape == speech.shape == (1, 5, 16)
    for window in (0, 2, 4):
        (seen,) = torch.autograd.grad(
            lips[0, window].square().mul(_normal(16)).sum(), pixels, retain_graph=True
        )
        (heard,) = torch.autograd.grad(
            speech[0, window].square().mul(_normal(16)).sum(), mel, retain_graph=True
        )
        assert seen.abs().amax((0, 1, 3, 4)).nonzero().flatten().tolist() == list(range(window, window + 5))
        assert heard.abs().amax((0, 2)).nonzero().flatten().tolist() == list(
            range(4 * window, 4 * window + 20)
        )


def test_embeddings_of_a_stretch_are_those_of_the_clip():
    network = _syncnet()
    pixels, mel = _normal(2, 3, 12, 32, 32), _normal(2, 48, 40)
    torch.testing.assert_close(network.embed_lips(pixels[:, :, 3:10]), network.embed_lips(pixels)[:, 3:6])
    torch.testing.assert_close(network.embed_speech(mel[:, 12:40]), network.embed_speech(mel)[:, 3:6])
    assert network.embed_lips(pixels).norm(dim=-1).allclose(torch.tensor(RADIUS))


def test_too_few_frames_are_refused():
    with pytest.raises(ValueError, match="4 frames are less than one window"):
        _syncnet().embed_speech(torch.zeros(1, 16, 40))
    with pytest.raises(ValueError, match="clip of 7 frames"):
        reach(7)


def test_reach_is_the_fields_or_half_of_the_windows():
    assert [reach(f) for f in (8, 9, 13, 17, 33, 35, 81)] == [3, 3, 4, 6, 14, 15, 15]


@pytest.mark.parametrize("delay", [-4, 0, 3])
def test_offset_confidence_and_distance_of_known_embeddings(delay):
    """Orthogonal windows at radius r: distance r * gap at the right shift, sqrt(2) r at all others."""
    windows, share = 40, 0.3
    basis = RADIUS * torch.eye(120)
    lips = basis[20 : 20 + windows]
    speech = basis[20 - delay : 20 - delay + windows]  # a sound that comes `delay` frames too late
    tilted = RADIUS * F.normalize(speech + share * basis[80 : 80 + windows], dim=-1)
    score = score_embeddings(lips, tilted)
    cosine = 1 / (1 + share**2) ** 0.5
    near, far = RADIUS * (2 - 2 * cosine) ** 0.5, RADIUS * 2**0.5
    assert score.offset == -delay
    assert score.distance == pytest.approx(near, rel=1e-4)
    assert score.confidence == pytest.approx(far - near, rel=0.02)


def test_shift_distances_equal_a_loop():
    lips, speech = _normal(2, 9, 4), _normal(2, 9, 4, seed=1)
    found = shift_distances(lips, speech, reach=3)
    for column, shift in enumerate(range(-3, 4)):
        pairs = [(i, i + shift) for i in range(9) if 0 <= i + shift < 9]
        gaps = torch.stack([(lips[:, i] - speech[:, j]).norm(dim=-1) for i, j in pairs])
        torch.testing.assert_close(found[:, column], gaps.mean(0))
    confidence, distance, offset = confidence_distance_offset(torch.tensor([[5.0, 4.0, 1.0, 3.0, 9.0]]))
    assert (confidence.item(), distance.item(), offset.item()) == (3.0, 1.0, 0)


def test_contrastive_loss_and_gradient_follow_the_formula():
    """-log of the partner's share, both ways; the neighbours within two frames take no part."""
    lips, speech = _normal(2, 6, 5).double().requires_grad_(), _normal(2, 6, 5, seed=1).double()
    loss = contrastive_loss(lips, speech, ignored_shift=2, temperature=0.2)
    a, b = (F.normalize(x, dim=-1).flatten(0, 1) for x in (lips, speech))
    total = 0.0
    for i in range(12):
        others = [j for j in range(12) if i // 6 != j // 6 or abs(i - j) > 2]
        own = (a[i] @ b[i] / 0.2).exp()
        total = total - (own / (own + sum((a[i] @ b[j] / 0.2).exp() for j in others))).log()
        total = total - (own / (own + sum((a[j] @ b[i] / 0.2).exp() for j in others))).log()
    torch.testing.assert_close(loss, total / 24)
    (wanted,) = torch.autograd.grad(total / 24, lips, retain_graph=True)
    (found,) = torch.autograd.grad(loss, lips)
    torch.testing.assert_close(found, wanted)


def test_training_finds_what_belongs_together(tmp_path):
    """Held-out clips score above other clips' sound, and a shifted sound shows its shift."""
    stage = _stage(matrix_lr=0.02)
    numbers = train(stage, Budget(steps=40), tmp_path)
    assert numbers["sync_c"] > 1.4 * numbers["sync_c_other"]
    assert numbers["sync_d"] < numbers["sync_d_other"] - 2
    assert numbers["offset_right"] == 1.0
    network, clips = load_syncnet(tmp_path), stage._held_out
    for clip in range(2):
        frames, samples = clips.frames[clip], clips.samples[clip]
        own = score_frames(network, frames, samples)
        late = score_frames(
            network, frames, np.concatenate([np.zeros(4 * 640, np.float16), samples[: -4 * 640]])
        )
        assert (own.offset, late.offset) == (0, -4)
        place = np.tile([0.5, 0.71, 0.1, 0.1], (len(frames), 1))
        assert score_frames(network, frames, samples, place) == own
        away = score_frames(network, frames, samples, place - [0, 0.6, 0, 0])
        assert away.confidence < 0.5 * own.confidence


def test_a_checkpoint_of_another_stage_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no SyncNet"):
        load_syncnet(tmp_path)
    torch.save({"stage": {"vae": {}}}, tmp_path / "training.pt")
    with pytest.raises(ValueError, match=r"holds \['vae'\]"):
        load_syncnet(tmp_path)


def test_sound_shorter_than_its_video_is_refused():
    with pytest.raises(ValueError, match="lasts 5 frames and the video 10"):
        score_frames(_syncnet(), np.zeros((10, 32, 32, 3), np.uint8), np.zeros(5 * 640, np.float32))


def test_crops_show_the_middle_of_their_boxes():
    """A ramp tells where it was read: linear inside, mirrored where asked, centred on the place."""
    ramp = ((torch.arange(64) + 0.5) / 64).expand(1, 1, 64, 64)
    boxes = torch.tensor([[0.5, 0.5, 0.25, 0.25]])
    shown = cut(ramp, boxes, size=(8, 16))[0, 0]
    torch.testing.assert_close(shown[0], 0.25 + 0.5 * (torch.arange(16) + 0.5) / 16, atol=1e-5, rtol=0)
    mirrored = cut(ramp, boxes * torch.tensor([1.0, 1.0, -1.0, 1.0]), size=(8, 16))[0, 0]
    torch.testing.assert_close(mirrored, shown.flip(1))
    place = torch.tensor([[0.4, 0.6, 0.05, 0.02]])
    assert mouth_boxes(1, place)[0].tolist() == pytest.approx([0.4, 0.6, 0.25, 0.17])
    assert mouth_crops(ramp.expand(1, 3, -1, -1), place).mean().item() == pytest.approx(0.4, abs=1e-4)


def test_reward_is_the_score_of_the_decoded_mouths_and_follows_their_boxes():
    vae = CausalVAE(VAEConfig(dim=4))
    initialise_codec(vae, torch.Generator().manual_seed(0))
    vae.eval().requires_grad_(False)
    bank = random_bank(2)
    bank = replace(bank, mel=np.random.default_rng(0).random((2, 1, 228, MEL.bins)).astype(np.float16))
    batch = draw_batch(bank, np.random.default_rng(0), clips=2, latents=6)
    network = _syncnet()
    reward = SyncReward(network, vae)
    whole, tail = reward(batch.latents, batch), reward(batch.latents, batch, first_latent=2)
    assert whole.shape == tail.shape == (2,) and (whole > 0).all() and not whole.requires_grad
    with torch.autocast("cpu", torch.bfloat16):  # of 4 rows of cells the last three, all columns
        pixels = vae.decode(denormalise_latents(batch.latents[..., 1:, :])).float()
    mouth = mouth_boxes(1) * torch.tensor([1, 4 / 3, 1, 4 / 3]) - torch.tensor([0, 1 / 3, 0, 0])
    for found, first, steps in ((whole, 0, 8), (tail, 5, 5)):
        frames = pixels[:, :, first:].transpose(1, 2).flatten(0, 1)
        crops = cut(frames, mouth.expand(len(frames), 4)).unflatten(0, (2, -1))
        lips, speech = network.embed_crops(crops), network.embed_speech(batch.mel[:, 4 * first : 84])
        distances = shift_distances(lips, speech, reach=steps)
        torch.testing.assert_close(found, distances.median(1).values - distances.min(1).values)
    placed = replace(bank, place=np.full((2, 57, 4), 0.3, np.float32))
    elsewhere = draw_batch(placed, np.random.default_rng(0), clips=2, latents=6)
    assert elsewhere.place.shape == (2, 21, 4) and torch.equal(elsewhere.latents, batch.latents)
    assert (reward(batch.latents, elsewhere) - whole).abs().min() > 1e-4
    with pytest.raises(ValueError, match="have 40 mel frames"):
        reward(batch.latents, replace(batch, mel=batch.mel[:, :40]))


def test_perceptual_gradient_follows_the_formula():
    trunk = LipTrunk((3, 4, 5)).double()
    initialise(trunk, torch.Generator().manual_seed(0))
    output, target = (
        _normal(1, 3, 2, 16, 16).double().requires_grad_(),
        _normal(1, 3, 2, 16, 16, seed=1).double(),
    )
    target.requires_grad_()
    perceptual_loss(trunk, output, target).backward()
    wanted = 0.0
    for a, b in zip(features(trunk, output), features(trunk, target), strict=True):
        assert a.square().sum(1).allclose(torch.ones(()).double())
        wanted = wanted + (2 - 2 * (a * b).sum(1)).mean()  # |a - b|^2 of unit vectors
    (expected,) = torch.autograd.grad(wanted, output)
    torch.testing.assert_close(output.grad, expected)
    assert target.grad is None
    assert perceptual_loss(trunk, target, target) == 0


def test_perceptual_distance_grows_with_blur():
    trunk = LipTrunk((8, 8, 8))
    initialise(trunk, torch.Generator().manual_seed(0))
    sharp = _normal(1, 3, 1, 32, 32)
    soft = F.interpolate(F.avg_pool2d(sharp[:, :, 0], 2), scale_factor=2)[:, :, None]
    softer = F.interpolate(F.avg_pool2d(sharp[:, :, 0], 4), scale_factor=4)[:, :, None]
    distances = [perceptual_loss(trunk, x, sharp).item() for x in (sharp, soft, softer)]
    assert distances == sorted(distances) and distances[1] > 0.05
    with pytest.raises(ValueError, match="too small"):
        features(trunk, torch.zeros(1, 3, 1, 4, 4))
