"""The teacher: windows, captions, what is left out, and what many steps make of noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.samplers.guidance import Guidance
from talkstream.samplers.schedule import shift_sigma
from talkstream.tests.training.tiny_world import NETWORK, SPEECH, random_bank, random_student
from talkstream.training.captions import CAPTIONS, Captions
from talkstream.training.data import draw_batch, take_batch
from talkstream.training.flow import flow_loss
from talkstream.training.prediction import predict_x0
from talkstream.training.student import TrainableStudent
from talkstream.training.teacher import TeacherSettings, TeacherStage, draw_window
from talkstream.training.teacher_sampling import Teacher, TeacherSampling, sample_window
from talkstream.training.trainer import Budget, train
from talkstream.training.world.acting import DOMAINS

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")


def _bank(clips=4):
    return replace(random_bank(clips), domain=np.arange(clips) % len(DOMAINS))


def _batch(clips=2):
    return draw_batch(_bank(), np.random.default_rng(1), clips=clips, latents=9)


def _stage(**settings):
    return TeacherStage(
        TeacherSettings(batch=2, **settings), _bank(), _bank(), network=NETWORK, speech=SPEECH
    )


def test_windows_begin_the_clip_or_lie_anywhere_behind():
    random = np.random.default_rng(0)
    drawn = [draw_window(random, clip=8, window=5, middle_share=0.75) for _ in range(200)]
    firsts = [places.start for places in drawn]
    assert set(firsts) == {0, 1, 2, 3} and all(len(places) == 5 for places in drawn)
    assert 0.15 < firsts.count(0) / 200 < 0.35
    assert draw_window(random, clip=8, window=0, middle_share=1.0) == range(8)
    with pytest.raises(ValueError, match="window is 9 latents and the clips have 8"):
        draw_window(random, clip=8, window=9, middle_share=0.0)


def test_captions_are_unit_rows_of_fixed_words():
    captions = Captions(24)
    rows = captions.of(torch.tensor([0, 1, 2]), 3)
    assert rows.shape == (3, 3, 24) and len({len(words) for words in CAPTIONS.values()}) == 1
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(3, 3))
    assert torch.equal(rows[0, 0], rows[1, 0]) and not torch.equal(rows[0, 1], rows[1, 1])
    assert torch.equal(rows, Captions(24).of(torch.tensor([0, 1, 2]), 3))
    assert torch.equal(captions.of(None, 2), captions.of(torch.tensor([0, 0]), 2))
    with pytest.raises(ValueError, match="no word .'whistling'."):
        captions.rows(("person", "whistling"))


def test_a_batch_is_the_clips_that_are_named_or_drawn():
    bank = _bank(8)
    named = take_batch(bank, np.array([6, 2]), np.array([1, 0]), latents=3)
    assert torch.equal(named.latents[0], torch.from_numpy(bank.latents[6, :, :3]).float())
    assert torch.equal(named.mel[0], torch.from_numpy(bank.mel[6, 1, :36]).float())
    assert named.domain.tolist() == [2, 2] and torch.equal(
        named.mouth[1], torch.from_numpy(bank.mouth[2, :9])
    )
    drawn = draw_batch(bank, np.random.default_rng(0), clips=20, latents=3, domains=("singing", "rare"))
    assert set(drawn.domain.tolist()) == {1, 3}
    chosen = drawn.rows(torch.tensor([5, 5]))
    assert torch.equal(chosen.condition.reference_BC1HW[1], drawn.latents[5, :, :1])


@torch.no_grad()
def test_a_caption_left_out_is_the_students_null_text():
    """Rows of zeros for text, with a teacher's weights for text, give just what a student with null text makes."""
    teacher = TrainableStudent(NETWORK, SPEECH, torch.Generator().manual_seed(2), reads_text=True)
    generator = torch.Generator().manual_seed(3)
    for parameter in teacher.parameters():
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    student = TrainableStudent(NETWORK, SPEECH, torch.Generator().manual_seed(4))
    weights = teacher.state_dict()
    student.load_state_dict(weights)
    for name in weights:
        if name.endswith(("cross_attn.q.weight", "cross_attn.k.weight", "text_embedding.0.weight")):
            assert weights[name].abs().max() > 0
    x = torch.randn(2, 33, 3, 4, 4, generator=generator)
    inputs = {"timestep_BT": torch.full((2, 1), 500.0), "speech_BTV": torch.randn(2, 3, 32)}
    assert torch.equal(student(x, **inputs), teacher(x, **inputs))
    captions = Captions(NETWORK.text_dim).of(torch.tensor([0, 1]), 2)
    nulls = teacher(x, **inputs, text_BMD=torch.zeros_like(captions))
    torch.testing.assert_close(nulls, teacher(x, **inputs), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        for block in student.network.blocks:
            block.cross_attn.q.weight.normal_(generator=generator)
        student.network.text_embedding[0].weight.normal_(generator=generator)
    assert torch.equal(student(x, **inputs), teacher(x, **inputs))
    assert (teacher(x, **inputs, text_BMD=captions) - nulls).abs().max() > 1e-4


def test_flow_loss_is_its_formula():
    """Gradient against 2 w (v - (eps - x0)) / sum w, by a network whose velocity is one number everywhere."""

    class Constant(TrainableStudent):
        def __init__(self):
            super().__init__(NETWORK, SPEECH, torch.Generator().manual_seed(0))
            self.level = torch.nn.Parameter(torch.tensor(0.3))

        def forward(self, x_BCTHW, **given):
            self.seen = (x_BCTHW, given)
            return self.level.expand(*x_BCTHW[:, :16].shape)

    network, batch = Constant(), _batch()
    noise = torch.randn(2, 16, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    weight, importance = torch.tensor([[1.0, 1, 0, 2], [1, 0.5, 1, 1]]), torch.rand(4, 4)
    level = torch.tensor([[0.0, 0.5, 0.5, 0.25], [0.0, 0.75, 1.0, 0.5]])
    loss, _ = flow_loss(
        network, batch, noise, places=range(4), level_BT=level, weight_BT=weight, importance=importance,
        hears=torch.tensor([True, False]),
    )  # fmt: skip
    loss.backward()
    x0 = batch.latents[:, :, :4]
    w = weight.clone()
    w[:, 0] = 0.0
    w = (w[:, None, :, None, None] * importance).expand_as(x0)
    error = 0.3 - (noise - x0)
    torch.testing.assert_close(loss, (w * error**2).sum() / w.sum())
    torch.testing.assert_close(network.level.grad, (2 * w * error).sum() / w.sum())
    x, given = network.seen
    assert torch.equal(x[:, :16, 0], batch.condition.reference_BC1HW[:, :, 0])
    torch.testing.assert_close(x[1, :16, 1], 0.25 * x0[1, :, 1] + 0.75 * noise[1, :, 1])
    assert given["speech_BTV"][1].abs().max() == 0 < given["speech_BTV"][0].abs().max()
    assert torch.equal(given["timestep_BT"], 1000 * level)


def test_the_loss_looks_where_the_mouth_is():
    """A mouth in the picture's lower left: its cell counts as much as the mouth's box, in its own latents alone."""
    place = np.tile(np.float32([0.125, 0.875, 0.1, 0.1]), (2, 57, 1))
    place[:, 5:] = (0.5, 0.6, 0.05, 0.05)
    bank = replace(random_bank(2), place=place)
    stage = TeacherStage(TeacherSettings(), bank, bank, network=NETWORK, speech=SPEECH)
    batch = take_batch(bank, np.array([0, 1]), np.array([0, 0]), latents=15)
    plain, weight = stage._importance, stage._importance_at(batch, [1, 3])
    assert weight.shape == (2, 1, 2, 4, 4)
    torch.testing.assert_close(weight[0, 0, 0, 3, 0], 5 * plain.min())
    assert weight[0, 0, 1, 3, 0] == plain[3, 0] == plain.min()
    assert (weight >= plain).all()
    assert torch.equal(stage._importance_at(_batch(), [1, 3]), plain)


def test_resumed_equals_uninterrupted(tmp_path):
    stages = [_stage(window=4, middle_share=0.5, text_dropout=0.5) for _ in range(3)]
    train(stages[0], Budget(steps=4), tmp_path / "whole")
    train(stages[1], Budget(steps=4), tmp_path / "parts", stop_after_steps=2)
    train(stages[2], Budget(steps=4), tmp_path / "parts")
    whole, resumed = (stage.student.state_dict() for stage in (stages[0], stages[2]))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    fresh = _stage().student.network
    for layer in ("text_embedding", "blocks.0.cross_attn.q"):
        moved = stages[0].student.network.get_submodule(layer).state_dict()
        start = fresh.get_submodule(layer).state_dict()
        assert any(not torch.equal(moved[name], start[name]) for name in start)


def test_a_level_of_the_students_takes_the_place_of_the_nearest():
    sampling = TeacherSampling(steps=48)
    schedule = sampling.schedule((1.0, 0.8333, 0.1))
    assert schedule.steps == 48 and {1.0, 0.8333, 0.1} <= set(schedule.sigmas)
    others = set(schedule.sigmas) - {0.8333, 0.1}
    assert others < {0.0, *(shift_sigma(1 - i / 48, 5.0) for i in range(48))}
    with pytest.raises(ValueError, match="no room for the levels .1.0."):
        TeacherSampling(steps=2).schedule((1.0, 0.999))


@torch.no_grad()
def test_sampling_takes_guided_euler_steps():
    """Two steps written out, in the middle of a clip; the trajectory's first input is the noise."""
    student, batch, places = random_student(), _batch(), range(3, 6)
    noise = torch.randn(2, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sampling = TeacherSampling(steps=2, shift=1.0, audio_guidance=3.0)
    teacher = Teacher(student, guidance=Guidance(audio=3.0))
    seen = []
    made = sample_window(
        teacher, batch, places, schedule=sampling.schedule(), noise=noise,
        on_input=lambda step, x: seen.append(x),
    )  # fmt: skip

    def guided(x, sigma):
        level = torch.full((2,), sigma)
        heard, deaf = (
            predict_x0(student, x, level, batch, places, hears=hears, text_BMD=teacher.text(batch))
            for hears in (True, False)
        )
        return deaf + 3.0 * (heard - deaf)

    first = guided(noise, 1.0)
    middle = 0.5 * first + 0.5 * noise
    assert torch.equal(seen[0], noise)
    torch.testing.assert_close(seen[1], middle, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(made, guided(middle, 0.5), atol=5e-2, rtol=5e-2)
    plain = sample_window(
        Teacher(student, guidance=Guidance()), batch, range(3), schedule=sampling.schedule(), noise=noise
    )
    assert torch.equal(plain[:, :, :1], batch.condition.reference_BC1HW)


@torch.no_grad()
def test_both_guidances_have_a_null_without_caption():
    student, batch = random_student(), _batch()
    noise = torch.randn(2, 16, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x0 = {}
    for text, hears in ((True, True), (False, True), (False, False)):
        rows = Teacher(student, guidance=Guidance()).text(batch) * text
        x0[text, hears] = predict_x0(
            student, noise, torch.ones(2), batch, range(3, 6), hears=hears, text_BMD=rows
        )
    weakest = x0[False, False]
    wanted = weakest + 2.0 * (x0[True, True] - x0[False, True]) + 3.0 * (x0[False, True] - weakest)
    made = sample_window(
        Teacher(student, guidance=Guidance(text=2.0, audio=3.0)), batch, range(3, 6),
        schedule=TeacherSampling(steps=1).schedule(), noise=noise,
    )  # fmt: skip
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)


def test_a_teacher_learns_a_constant_clip():
    bank = random_bank(1)
    bank.latents[:] = bank.latents[:, :, :1]
    settings = TeacherSettings(batch=2, matrix_lr=0.05, other_lr=0.02, window=6, middle_share=0.5)
    stage = TeacherStage(settings, bank, bank, network=NETWORK, speech=SPEECH)
    losses = [stage.step(step, 0.0)["bidirectional"] for step in range(30)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:4])
