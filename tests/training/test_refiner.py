"""The decoder refiner: what it decodes, compares, changes and leaves alone."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from talkstream.model_loaders.refiner import read_refiner
from talkstream.networks.cache_spec import CacheSpec
from talkstream.networks.causal_vae import CausalVAE, VAEConfig, denormalise_latents
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.decoder import StreamingDecoder
from talkstream.tests.training.tiny_world import (
    CACHE,
    LATENTS,
    NETWORK,
    SIGMAS,
    SPEECH,
    random_bank,
    random_student,
)
from talkstream.training import stages
from talkstream.training.aligned import restore
from talkstream.training.codec_init import initialise_codec
from talkstream.training.conditions import PortraitCondition
from talkstream.training.config import Recipe, StageRecipe
from talkstream.training.data import save_bank
from talkstream.training.discriminator import PatchDiscriminator, frame_groups
from talkstream.training.export import export_codec, export_refiner
from talkstream.training.losses import (
    adversarial_loss,
    discriminator_loss,
    gradient_penalty,
    pixel_loss,
)
from talkstream.training.refiner import RefinerSettings, RefinerStage, decode_window, window_frames
from talkstream.training.rollout import Rollout, roll_out
from talkstream.training.sampling import load_codec_file
from talkstream.training.syncnet import SyncNet, SyncNetConfig
from talkstream.training.trainer import Budget, train
from talkstream.training.world.dataset import Dataset, DatasetSize

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning", "ignore:The given NumPy array")

CLIP = 6  # latents of the stage's clips: two chunks
FRAMES = 4 * LATENTS - 3


def _codec(*, res_blocks=1):
    vae = CausalVAE(VAEConfig(dim=4, res_blocks=res_blocks))
    initialise_codec(vae, torch.Generator().manual_seed(0))
    return vae


def _latents(count, *, seed=0, batch=1):
    return torch.randn((batch, 16, count, 4, 4), generator=torch.Generator().manual_seed(seed))


def _dataset(clips):
    random = np.random.default_rng(5)
    frames = random.integers(0, 255, (clips, 4 * CLIP - 3, 32, 32, 3), dtype=np.uint8)
    return Dataset(
        frames, np.zeros((clips, 16000), np.float16), np.zeros((clips, 4 * CLIP - 3, 5), np.float32)
    )


def _bank(clips, *, seed=0):
    bank = random_bank(clips, seed=seed)
    return replace(bank, latents=bank.latents[:, :, :CLIP], mel=bank.mel[:, :, : 4 * (4 * CLIP - 3)])


def _squared(output, target):
    return F.avg_pool3d(output - target.detach(), (1, 4, 4)).square().mean()


def _stage(settings=RefinerSettings(width=4, rollout_chunks=2, adversarial_start=0.0)):  # noqa: B008
    return RefinerStage(
        settings, _dataset(3), _dataset(1), banks=(_bank(3), _bank(1, seed=1)), vae=_codec(),
        student=random_student(), cache=CACHE, schedule=Schedule.from_sigmas(SIGMAS), perceive=_squared,
    )  # fmt: skip


@pytest.mark.parametrize("first", [0, 2])
def test_a_window_is_decoded_as_the_stream_and_the_whole_clip_are(first):
    """In float32: the window's frames of the whole decode, and of the stream that ships."""
    vae, latents = _codec().requires_grad_(False), _latents(5)
    raw = denormalise_latents(latents)
    with torch.autocast("cpu", enabled=False):
        whole = vae.decode(raw)
        streamed = StreamingDecoder(vae).decode(raw)
        decoder = StreamingDecoder(vae, exact=True)
        if first:
            decoder.decode_recorded(raw[:, :, :first])
        window = decoder.decode_recorded(raw[:, :, first:])
    shown = window_frames(first, 5 - first)
    torch.testing.assert_close(window, whole[:, :, shown], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(window, streamed[:, :, shown], rtol=1e-4, atol=1e-4)
    in_bf16 = decode_window(vae, latents, first)
    assert (in_bf16 - whole[:, :, shown]).abs().mean() < 0.03 * whole.std()


def test_gradients_of_a_stream_from_its_start_are_those_of_the_whole_decode():
    """What latents carry to later ones of the same window is part of the gradient."""
    vae, raw = _codec(), _latents(4, batch=2)
    target = torch.randn((2, 3, 13, 32, 32), generator=torch.Generator().manual_seed(1))
    gradients = []
    for decode in (vae.decode, StreamingDecoder(vae, exact=True).decode_recorded):
        vae.zero_grad()
        (decode(raw) * target).mean().backward()
        gradients.append({name: p.grad.clone() for name, p in vae.decoder.named_parameters()})
    for name, wanted in gradients[0].items():
        error = (gradients[1][name] - wanted).norm() / wanted.norm().clamp_min(1e-9)
        assert error < 1e-3, name


def _restored(truth, schedule, *, cache=CACHE, student=None):
    condition = PortraitCondition(truth[:, :, :1])
    student = student or random_student()
    speech = student.features(_mel())
    return restore(
        student, truth, schedule=schedule, cache=cache, condition=condition, speech_BTV=speech,
        generator=torch.Generator().manual_seed(4),
    )  # fmt: skip


def _mel():
    return torch.rand((1, 4 * FRAMES, SPEECH.bins), generator=torch.Generator().manual_seed(2))


def test_restoring_a_one_step_rollout_gives_the_rollout():
    """From pure noise in one step, with its own output as the true past, restore() is the free rollout itself."""
    student, schedule = random_student().requires_grad_(False), Schedule.from_sigmas((1.0, 0.0))
    cache, reference = replace(CACHE, steps=1), _latents(1, seed=8)
    rollout = Rollout(
        student, schedule=schedule, cache=cache, condition=PortraitCondition(reference),
        speech_BTV=student.features(_mel()), generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    rolled = roll_out(rollout, 3)
    restored = _restored(rolled, schedule, cache=cache, student=student)
    torch.testing.assert_close(restored, rolled, rtol=1e-4, atol=1e-4)
    other = torch.cat([rolled[:, :, :3] + 1.0, rolled[:, :, 3:]], dim=2)
    changed = _restored(other, schedule, cache=cache, student=student)
    assert (changed[:, :, 3:6] - rolled[:, :, 3:6]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "cache",
    [
        CACHE,
        replace(CACHE, mode="per_step"),
        CacheSpec(
            chunk=3, sink=1, history=(3, 0), sink_rule="ahead", sink_offset=4, mode="per_step", steps=2,
            sink_source="reference_then_first_generated",
        ),
    ],
    ids=["clean", "per step", "echo"],
)  # fmt: skip
def test_a_low_last_level_gives_the_clip_back(cache):
    """x0 = x - t v: from level 0.001 the estimate is the clip, up to a thousandth of the velocity and the noise."""
    truth = _latents(9)
    restored = _restored(truth, Schedule.from_sigmas((1.0, 0.001, 0.0)), cache=cache)
    assert restored.shape == truth.shape
    assert (restored - truth).abs().max() < 0.02
    assert (restored - truth)[:, :, 1:].abs().max() > 0
    assert torch.equal(restored[:, :, :1], truth[:, :, :1])


def test_only_decoder_and_discriminator_move():
    stage = _stage()
    frozen = {"encoder": stage.vae.encoder, "conv1": stage.vae.conv1, "conv2": stage.vae.conv2}
    frozen["student"] = stage._student
    before = {name: copy.deepcopy(module.state_dict()) for name, module in frozen.items()}
    moving = {"decoder": stage.vae.decoder, "discriminator": stage.discriminator}
    started = {name: copy.deepcopy(module.state_dict()) for name, module in moving.items()}
    for step in range(2):
        report = stage.step(step, 0.5)
        assert all(np.isfinite(value) for value in report.values())
    for name, module in frozen.items():
        assert all(torch.equal(before[name][key], tensor) for key, tensor in module.state_dict().items())
    for name, module in moving.items():
        for key, parameter in module.named_parameters():
            assert not torch.equal(started[name][key], parameter), f"{name}.{key}"


def test_the_discriminator_learns_alone_at_first():
    """Before adversarial_start the decoder's step is the one of a stage without an adversary."""
    late = RefinerSettings(width=4, rollout_chunks=2, adversarial_start=0.5, adversarial_share=10.0)
    alone = _stage(late)
    without = _stage(replace(late, adversarial_share=0.0, adversarial_start=0.0))
    for stage in (alone, without):
        stage.step(0, 0.1)
    wanted, got = (stage.vae.decoder.state_dict() for stage in (without, alone))
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    pushed = _stage(late)
    pushed.step(0, 0.6)
    assert any(
        not torch.equal(tensor, wanted[name]) for name, tensor in pushed.vae.decoder.state_dict().items()
    )


def test_resumed_equals_uninterrupted_and_overlays_the_vae(tmp_path):
    whole, resumed = _stage(), _stage()
    numbers = train(whole, Budget(steps=2), tmp_path / "whole")
    train(_stage(), Budget(steps=2), tmp_path / "parts", stop_after_steps=1)
    train(resumed, Budget(steps=2), tmp_path / "parts")
    wanted, got = whole.vae.decoder.state_dict(), resumed.vae.decoder.state_dict()
    assert all(torch.equal(wanted[name], got[name]) for name in wanted)
    assert numbers["psnr_before"] != numbers["psnr_refined"]
    assert numbers["codec_before"] != numbers["codec_refined"]
    whole.average.copy_to(whole.vae.decoder)
    path = tmp_path / "refiner.safetensors"
    export_refiner(path, whole.vae, dtype=torch.float32)
    assert all(name.startswith("decoder.") for name in load_file(path))
    plain = _codec()
    refined = read_refiner(path, {name: tuple(t.shape) for name, t in plain.state_dict().items()})
    overlaid = _codec()
    overlaid.load_state_dict({**plain.state_dict(), **refined})
    latents = _latents(3)
    torch.testing.assert_close(overlaid.decode(latents), whole.vae.decode(latents), rtol=1e-4, atol=1e-4)
    assert (overlaid.decode(latents) - plain.decode(latents)).abs().max() > 1e-3
    assert torch.equal(overlaid.encoder.conv1.weight, plain.encoder.conv1.weight)


def _recipe(folder):
    """A folder with everything that a refiner recipe builds on, of tiny networks."""
    for name, count in (("clips", 3), ("held_out", 1)):
        data = _dataset(count)
        (folder / name).mkdir()
        for item in ("frames", "samples", "mouth"):
            np.save(folder / name / f"{item}.npy", getattr(data, item))
        (folder / name / "dataset.json").write_text("{}")
    run = folder / "run"
    save_bank(run / "train_latents.npz", _bank(3))
    save_bank(run / "held_out_latents.npz", _bank(1, seed=1))
    export_codec(folder / "codec.safetensors", _codec(res_blocks=2))
    student = random_student()
    finished = {
        "start": {"student": student.state_dict(), "average": {"updates": 0}},
        "syncnet": {"syncnet": SyncNet(SyncNetConfig(bins=SPEECH.bins)).state_dict()},
    }
    for name, state in finished.items():
        (folder / name).mkdir()
        torch.save({"stage": state}, folder / name / "training.pt")
    size = DatasetSize(clips=3, frames=4 * CLIP - 3, side=32)
    part = StageRecipe("refiner", RefinerSettings(width=4), Budget(steps=1), Budget(steps=1))
    return Recipe(
        run, size, folder / "clips", size, folder / "held_out", (part,), codec=folder / "codec.safetensors",
        start=folder / "start", syncnet=folder / "syncnet", export_refiner=folder / "out" / "refiner.safetensors",
    )  # fmt: skip


def test_a_recipe_builds_a_refiner_and_writes_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "NETWORK", NETWORK)
    monkeypatch.setattr(stages, "SPEECH", SPEECH)
    recipe = _recipe(tmp_path)
    stage = stages.build_stage(recipe, 0, device=torch.device("cpu"))
    report = stage.step(0, 0.0)
    assert report["perceived"] > 0 and report["pixels"] > 0
    stages.export_results(recipe, stage)
    plain = load_codec_file(recipe.codec).state_dict()
    refined = read_refiner(recipe.export_refiner, {name: tuple(t.shape) for name, t in plain.items()})
    assert refined.keys() == {name for name in plain if name.startswith("decoder.")}
    assert any(not torch.equal(tensor.float(), plain[name]) for name, tensor in refined.items())
    with pytest.raises(ValueError, match="a refiner needs start: and syncnet:, got .* and None"):
        stages.build_stage(replace(recipe, syncnet=None), 0, device=torch.device("cpu"))


def test_wrong_settings_and_clips_are_named():
    with pytest.raises(ValueError, match="window is 4 latents; give at least 5"):
        RefinerSettings(window=4)
    with pytest.raises(ValueError, match="span is 2 frames"):
        _stage(RefinerSettings(span=2))
    with pytest.raises(ValueError, match="have 6 latents in whole chunks; a window of 6"):
        _stage(RefinerSettings(window=6))
    with pytest.raises(ValueError, match="frames of 2 clips and latents of 3"):
        RefinerStage(
            RefinerSettings(), _dataset(2), _dataset(2), banks=(_bank(3), _bank(2)), vae=_codec(),
            student=random_student(), cache=CACHE, schedule=Schedule.from_sigmas(SIGMAS), perceive=_squared,
        )  # fmt: skip


def _random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_pixel_loss_gradient():
    output, target = _random(2, 3).requires_grad_(True), _random(6).view(2, 3).flip(0)
    pixel_loss(output, target).backward()
    gap = output.detach() - target
    torch.testing.assert_close(output.grad, (gap.sign() + 2 * gap) / 6)


def test_discriminator_loss_gradient():
    """-log D(real) - log(1 - D(made)): in the logits, (D - 1) / n for real patches and D / n for made ones."""
    real, made = _random(4).requires_grad_(True), _random(2, 3).requires_grad_(True)
    loss = discriminator_loss(real, made)
    torch.testing.assert_close(loss, -(real.sigmoid().log().mean() + (1 - made.sigmoid()).log().mean()))
    loss.backward()
    torch.testing.assert_close(real.grad, (real.detach().sigmoid() - 1) / 4)
    torch.testing.assert_close(made.grad, made.detach().sigmoid() / 6)


def test_adversarial_loss_gradient():
    """-log D(made): (D - 1) / n, which does not vanish where D is near 0."""
    made = (_random(5) - 4).requires_grad_(True)
    adversarial_loss(made).backward()
    torch.testing.assert_close(made.grad, (made.detach().sigmoid() - 1) / 5)
    assert made.grad.abs().min() > 0.15


def test_gradient_penalty_of_a_quadratic():
    """logit = a x^2 / 2 has the slope a x: penalty a^2 |x|^2, and its gradient in a is 2 a |x|^2."""
    a, x = torch.tensor(1.5, dtype=torch.float64, requires_grad=True), _random(2, 3).requires_grad_(True)
    penalty = gradient_penalty(a * x.square().sum(1) / 2, x)
    length = x.detach().square().sum(1).mean()
    torch.testing.assert_close(penalty, a**2 * length)
    penalty.backward()
    torch.testing.assert_close(a.grad, 2 * a.detach() * length)


def test_groups_are_consecutive_frames_and_patches_see_their_frames():
    clip = torch.arange(7.0).view(1, 1, 7, 1, 1).expand(1, 3, 7, 8, 8)
    groups = frame_groups(clip, 3, offset=1)
    assert groups.shape == (2, 9, 8, 8)
    assert groups[0, ::3, 0, 0].tolist() == [1.0, 2.0, 3.0] and groups[1, ::3, 0, 0].tolist() == [
        4.0,
        5.0,
        6.0,
    ]
    with pytest.raises(ValueError, match="fill no group of 3"):
        frame_groups(clip[:, :, :3], 3, offset=1)
    discriminator = PatchDiscriminator(3, 4, torch.Generator().manual_seed(0))
    picture = torch.zeros(1, 9, 64, 64, requires_grad=True)
    logits = discriminator(picture)
    assert logits.shape == (1, 16, 16)
    logits[0, 8, 8].backward()
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 <= 22
