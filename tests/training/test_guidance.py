"""Guidance rules of distillation in closed form, and the forwards that they ask for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from talkstream.tests.training.tiny_world import random_bank, random_student
from talkstream.training.captions import CAPTIONS, Captions
from talkstream.training.data import draw_batch
from talkstream.training.guidance import Guidance, guidance_scales
from talkstream.training.mouth_region import DRAWN_MOUTH, mouth_region
from talkstream.training.scores import NetworkScore, RoutedScore, guided_x0

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")

LEVELS = (0.3, 0.7, 0.95)
SIGMA = torch.tensor(LEVELS)
PLACES = range(6)


class CountedScore:
    """x0 = a number with speech, another without; counts the clips of each call."""

    def __init__(self, heard: float, deaf: float) -> None:
        self.heard, self.deaf = heard, deaf
        self.clips = {True: 0, False: 0}

    def __call__(self, noisy, sigma, batch, latents, *, hears):
        rows = torch.as_tensor(hears).expand(len(noisy))
        assert len(noisy) == len(sigma) == len(batch.latents) == len(batch.mel)
        for said in (True, False):
            self.clips[said] += int((rows == said).sum())
        value = torch.where(rows, self.heard, self.deaf).view(-1, 1, 1, 1, 1)
        return value.to(noisy).expand_as(noisy).clone()


def _batch(**changes):
    return replace(draw_batch(random_bank(3), np.random.default_rng(1), clips=3, latents=9), **changes)


def _direction(guidance, mouth):
    """fake - real under a rule, scores being constants: real 5 / 2, fake 11 / 3."""
    real, fake = CountedScore(5.0, 2.0), CountedScore(11.0, 3.0)
    scales = guidance_scales(guidance, LEVELS, mouth)
    shown = (torch.zeros(3, 16, 6, 4, 4), SIGMA, _batch(), PLACES)
    difference = guided_x0(fake, *shown, scale=scales.fake, null_of=scales.fake_null)
    difference = difference - guided_x0(real, *shown, scale=scales.real, null_of=scales.real_null)
    return difference * scales.share, real.clips, fake.clips


def _real(g):
    return 2.0 + g * 3.0


def _fake(g):
    return 3.0 + g * 8.0


MOUTH = torch.zeros(3, 6, 4, 4)
MOUTH[..., 2, :] = 1.0
MOUTH[..., 1, :] = 0.25


@pytest.mark.parametrize(
    ("rule", "scales", "nulls"),
    [("none", (1, 1, 1), 0), ("constant", (4.5, 4.5, 4.5), 3), ("sync_window", (1, 4.5, 1), 1)],
)
def test_rules_that_guide_the_real_score(rule, scales, nulls):
    """The window is 0.556..0.882: of levels 0.3, 0.7, 0.95 only the second is guided, and only its null is run."""
    got, real, fake = _direction(Guidance(rule, 4.5), MOUTH)
    for i, g in enumerate(scales):
        torch.testing.assert_close(got[i], torch.full((16, 6, 4, 4), 11.0 - _real(g)))
    assert real == {True: 3, False: nulls}
    assert fake == {True: 3, False: 0}


@pytest.mark.parametrize(
    ("sigma", "inside"), [(0.5559, False), (0.5561, True), (0.8819, True), (0.8821, False)]
)
def test_the_ends_of_the_sync_window(sigma, inside):
    scales = guidance_scales(Guidance("sync_window", 4.5), [sigma], MOUTH[:1])
    assert scales.real.item() == (4.5 if inside else 1.0)


@pytest.mark.parametrize(
    ("oral", "outside", "mouth", "edge"),
    [
        ("prose", _fake(1.8) - 5.0, 11.0 - 5.0, _fake(1.6) - 5.0),
        ("printed", 11.0 - 5.0, _fake(1.8) - 5.0, _fake(1.2) - 5.0),
        ("zero", _fake(1.8) - 5.0, 0.0, 0.75 * (_fake(1.8) - 5.0)),
    ],
)
def test_acc_in_both_bands_and_at_the_mouth(oral, outside, mouth, edge):
    """EchoTorrent, equation 3 by our reading: b = 0.556, g = 1.8; a soft edge mixes the two sides linearly."""
    got, real, fake = _direction(Guidance("acc", 1.8, oral=oral), MOUTH)
    for i in (1, 2):
        torch.testing.assert_close(got[i], torch.full((16, 6, 4, 4), 11.0 - _real(1.8)))
    expected = torch.full((16, 6, 4, 4), outside)
    expected[..., 2, :], expected[..., 1, :] = mouth, edge
    torch.testing.assert_close(got[0], expected)
    assert real == {True: 3, False: 2}
    assert fake == {True: 3, False: 1}


def test_a_level_at_the_band_is_late():
    at, above = (guidance_scales(Guidance("acc", 1.8), [t], MOUTH[:1]) for t in (0.556, 0.5561))
    assert (at.real.item(), above.real.item()) == pytest.approx((1.0, 1.8))


def test_a_scale_of_one_needs_no_null():
    for rule in ("constant", "acc"):
        scales = guidance_scales(Guidance(rule, 1.0), LEVELS, MOUTH)
        assert scales.real_null == scales.fake_null == ()
        assert (scales.real == 1).all() and (scales.fake == 1).all()


def test_a_rule_with_bad_numbers_is_refused():
    with pytest.raises(ValueError, match="sync window 0.9..0.2"):
        Guidance("sync_window", 4.5, low=0.9, high=0.2)


def test_clips_go_to_the_expert_of_their_domain():
    general, singing, rare = CountedScore(1.0, -1.0), CountedScore(2.0, -2.0), CountedScore(3.0, -3.0)
    score = RoutedScore(general, {1: singing, 3: rare})
    noisy = torch.zeros(3, 16, 6, 4, 4)
    batch = _batch(domain=torch.tensor([1, 0, 1]))
    got = score(noisy, SIGMA, batch, PLACES, hears=True)[:, 0, 0, 0, 0]
    assert got.tolist() == [2.0, 1.0, 2.0]
    assert (general.clips[True], singing.clips[True], rare.clips[True]) == (1, 2, 0)
    mixed = score(noisy, SIGMA, batch, PLACES, hears=torch.tensor([True, False, False]))[:, 0, 0, 0, 0]
    assert mixed.tolist() == [2.0, -1.0, -2.0]
    unknown = score(noisy, SIGMA, _batch(), PLACES, hears=True)[:, 0, 0, 0, 0]
    assert unknown.tolist() == [1.0, 1.0, 1.0]


@torch.no_grad()
def test_a_network_reads_the_captions_of_its_clips():
    """A singing clip is judged by the caption of singing, with speech and without; clips of no domain speak."""
    student = random_student().requires_grad_(False)
    forward, texts = student.forward, []
    student.forward = lambda x, **given: (texts.append(given["text_BMD"]), forward(x, **given))[1]
    noisy = torch.zeros(3, 16, 6, 4, 4)
    batch, captions = _batch(domain=torch.tensor([1, 0, 2])), Captions(24)
    for hears in (True, False):
        NetworkScore(student)(noisy, SIGMA, batch, PLACES, hears=hears)
    NetworkScore(student)(noisy, SIGMA, _batch(), PLACES, hears=True)
    rows = [captions.rows(CAPTIONS[name]) for name in ("singing", "speaking", "profile")]
    assert torch.equal(texts[0], torch.stack(rows)) and torch.equal(texts[1], texts[0])
    assert torch.equal(texts[2], rows[1].expand(3, -1, -1))


def test_the_mouth_region_follows_its_box_and_fades_at_its_edge():
    """A box over columns 1..2 of row 3 in frame 4t of latent 1: there 1, half a cell away a half, far away 0."""
    place = torch.zeros(1, 9, 4)
    place[...] = torch.tensor([0.5, 0.125, 0.25, 0.0625])  # row 0, columns 1 and 2 of 4 by 4 cells
    place[:, 4] = torch.tensor([0.5, 0.875, 0.25, 0.0625])  # the last frame of latent 1: row 3
    batch = draw_batch(random_bank(1), np.random.default_rng(1), clips=1, latents=3)
    region = mouth_region(replace(batch, place=place), range(3), edge=1.0)
    row = torch.tensor([0.5, 1.0, 1.0, 0.5])
    torch.testing.assert_close(region[0, 0, 0], row)
    torch.testing.assert_close(region[0, 1, 0], row)
    torch.testing.assert_close(region[0, 1, 3], row)
    assert region[0, 0, 3].max() == region[0, 2, 3].max() == 0
    hard = mouth_region(replace(batch, place=place), range(1, 2), edge=0.0)
    assert hard[0, 0].tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]


def test_without_places_the_mouth_is_the_drawn_portraits():
    batch = draw_batch(random_bank(1), np.random.default_rng(1), clips=1, latents=3)
    region = mouth_region(batch, range(2), edge=0.0)
    x, y, half_width, half_height = DRAWN_MOUTH
    centres = (torch.arange(4) + 0.5) / 4
    inside = ((centres - y).abs() <= half_height)[:, None] & ((centres - x).abs() <= half_width)
    assert torch.equal(region[0, 0].bool(), inside) and inside.any()
