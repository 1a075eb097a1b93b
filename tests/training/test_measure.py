"""Measures of generated clips: each tells what it should from what it should not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from talkstream.benchmarks.mini_quality import Case, Report, report_measures, subjects_of
from talkstream.training.measure import Judges, Subject, measure
from talkstream.training.mouth_measures import (
    MouthManifold,
    amplitude,
    best_lag_correlation,
    blinks_per_minute,
)
from talkstream.training.picture_measures import (
    background_gaps,
    colour_gap,
    identity_gaps,
    psnr_of,
    sharpness,
)
from talkstream.training.reader import ReaderSettings, shown_truth, train_reader
from talkstream.training.syncnet import SyncNet, SyncNetConfig
from talkstream.training.world.person import random_person
from talkstream.training.world.portrait import Portrait
from talkstream.training.world.pose import Pose
from talkstream.training.world.visemes import VISEMES, MouthShape

SIDE = 64


def _drawn(seed, *, count, x=0.0, eyes=1.0, mouth=None):
    """A person saying visemes at random, or with one mouth throughout, its head shifted by x: frames (F, H, W, 3),
    mouth (F, 5), eyes (F,).
    """
    random = np.random.default_rng(seed)
    portrait = Portrait(random_person(np.random.default_rng([seed, 9])), side=SIDE)
    shapes = np.array(list(VISEMES.values()), np.float32)
    share = random.random((count, 1), dtype=np.float32)
    first, second = random.integers(len(shapes), size=(2, count))
    said = shapes[first] * share + shapes[second] * (1 - share)
    mouth = said if mouth is None else np.tile(np.float32(mouth), (count, 1))
    lids = np.full(count, eyes, np.float32)
    lids[10::20] = lids[11::20] = 0.0
    frames = [
        portrait.draw(Pose(x=x, eyes_open=lid), MouthShape(*row))
        for lid, row in zip(lids.tolist(), mouth.tolist(), strict=True)
    ]
    return np.stack(frames), mouth, lids


@pytest.fixture(scope="module")
def judges():
    clips = [_drawn(seed, count=40) for seed in range(5)]
    frames = np.concatenate([c[0] for c in clips])
    truth = np.concatenate([shown_truth(c[1], c[2]) for c in clips])
    place = np.tile([0.5, 0.71, 0.2, 0.1], (len(frames), 1))
    reader = train_reader(frames, truth, ReaderSettings(steps=150, batch=32), place=place)
    return Judges(reader, MouthManifold.fit(truth, reader.read(frames)))


def _subject(seed, **changes):
    frames, mouth, _ = _drawn(seed, count=40)
    subject = Subject(
        frames, np.zeros(40 * 640, np.float32), mouth, portrait=frames[0], like=frames, truth=frames
    )
    return replace(subject, **changes)


def test_the_truth_measures_as_the_truth(judges):
    found = measure([_subject(seed) for seed in (0, 1)], judges)
    assert min(found.r_open, found.r_width, found.r_round) > 0.8
    assert found.lag_frames == 0 and 0.8 < found.amplitude < 1.2
    assert found.r_teeth > 0.6
    assert found.mouth_outside < 0.05
    assert found.blinks == pytest.approx(75, abs=20)  # two in 1.6 s
    assert found.sharpness == pytest.approx(1.0) and found.psnr > 100
    assert found.background < 1e-6 and found.identity < 0.01
    assert found.sync_c is found.sync_d is found.offset_frames is None


def test_mouths_are_found_and_read_where_the_head_went(judges):
    """A head moved by 0.06 of the side: found within 0.015, and read nearly as well as one in the middle."""
    moved, mouth, _ = _drawn(0, count=40, x=0.06)
    middle, _, _ = _drawn(0, count=40)
    found = judges.reader.find(moved)
    assert np.abs(found[:, 0] - 0.56).max() < 0.03 and abs(found[:, 0].mean() - 0.56) < 0.015
    assert abs(judges.reader.find(middle)[:, 0].mean() - 0.5) < 0.015
    assert np.corrcoef(judges.reader.read(moved)[:, 0], mouth[:, 0])[0, 1] > 0.8


def test_mouths_are_read_where_they_are_said_to_be(judges):
    """The true box reads as well as the found one; a box beside the mouth does not."""
    good = _subject(0)
    true, beside = (np.tile(np.float32([x, 0.71, 0.2, 0.1]), (40, 1)) for x in (0.5, 0.9))
    found, told, misled = (measure([replace(good, place=p)], judges).r_open for p in (None, true, beside))
    assert told > 0.8 and abs(told - found) < 0.1 and misled < told - 0.2


def test_what_is_spoilt_shows_in_its_measure(judges):
    good = _subject(0)
    small = F.avg_pool2d(torch.from_numpy(good.frames).permute(0, 3, 1, 2).float(), 2)
    soft = F.interpolate(small, scale_factor=2, mode="bilinear").permute(0, 2, 3, 1).byte().numpy()
    still = np.repeat(good.frames[:1], 40, axis=0)
    tinted = (good.frames * 0.9).astype(np.uint8)
    grin, _, _ = _drawn(0, count=40, mouth=(1.0, 1.0, 0.0, 0.0, 0.0))  # as wide as no voice opens it
    base, blurred, stopped, darker, broken = (
        measure([replace(good, frames=f)], judges) for f in (good.frames, soft, still, tinted, grin)
    )
    assert blurred.sharpness < 0.5 and blurred.psnr < 35
    assert abs(stopped.r_open) < 0.1 and stopped.amplitude < 0.05 and stopped.blinks == 0
    assert darker.identity > base.identity + 0.02 and darker.background > 0.03
    assert broken.mouth_outside > 0.9 > 0.05 > base.mouth_outside
    assert measure([good, replace(good, truth=None)], judges).psnr is None


def test_sync_is_scored_where_there_is_a_syncnet(judges):
    network = SyncNet(SyncNetConfig(lips=(4, 4, 4), frame=8, speech=(8, 8), width=8)).requires_grad_(False)
    found = measure([_subject(0)], replace(judges, syncnet=network))
    assert found.sync_c >= 0 and 0 < found.sync_d <= 20 and found.offset_frames <= 15


def test_the_report_shows_every_kind_beside_the_others(judges):
    """Sync rows are left out without a SyncNet; a student's head is not the truth's, so it has no PSNR."""
    frames, mouth, eyes = _drawn(1, count=40)
    case = Case(
        frames, mouth, eyes, np.zeros(40 * 640, np.float32), reconstructed=frames, generated=frames // 2
    )
    drawn, made = (subjects_of([case], name) for name in ("truth", "generated"))
    assert drawn[0].truth is frames and made[0].truth is None
    report = Report()
    report_measures(report, {"drawn": measure(drawn, judges), "student": measure(made, judges)})
    shown = {label: float(value) for label, value, _ in report.rows}
    assert not any(label.startswith(("Sync-C", "Sync-D", "offset")) for label in shown)
    gap = {who: shown[f"distance to the portrait's background: {who}"] for who in ("drawn", "student")}
    assert gap["drawn"] == 0 < 0.2 < gap["student"]
    assert shown["sharpness over the codec's: student"] == pytest.approx(0.25, abs=0.02)


def test_an_empty_set_is_refused(judges):
    with pytest.raises(ValueError, match="no clip to measure"):
        measure([], judges)


def test_identity_tells_people_apart_and_forgives_sway_and_blinks():
    """Of 12 people each is nearest to its own portrait, though the frames sway and their eyes are shut."""
    portraits = [_drawn(seed, count=1)[0][0] for seed in range(12)]
    swayed = [_drawn(seed, count=1, x=0.02, eyes=0.0)[0] for seed in range(12)]
    gaps = np.array([[identity_gaps(video, portrait)[0] for portrait in portraits] for video in swayed])
    own = np.diag(gaps)
    others = gaps[~np.eye(12, dtype=bool)]
    assert (gaps.argmin(axis=1) == np.arange(12)).all()
    assert 2 * own.max() < np.median(others)
    assert identity_gaps(portraits[0][None], portraits[0])[0] == 0


def test_background_sees_only_what_lies_beside_the_head():
    frames, _, _ = _drawn(0, count=1)
    changed = frames.copy()
    changed[:, 20:50, 20:44] = 0
    assert background_gaps(changed, frames[0])[0] == 0
    changed[:, :10] = 255 - frames[:, :10]
    assert background_gaps(changed, frames[0])[0] > 0.04


def test_a_still_mouth_has_no_amplitude():
    """A silent clip's true mouth does not move: it once was divided by."""
    moving, read, still = np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.zeros(2)
    assert amplitude([read, read], [moving, still]) == 0.5
    assert np.isnan(amplitude([read], [still]))


def test_the_colour_gap_is_the_lab_distance_of_means():
    """Grey 128 against 140 is a step in lightness (CIE 1976), noise of mean zero is none, the head is not seen."""
    grey, light = np.full((40, 40, 3), 128, np.uint8), np.full((2, 40, 40, 3), 140, np.uint8)
    lightness = [116 * (((v / 255 + 0.055) / 1.055) ** 2.4) ** (1 / 3) - 16 for v in (128, 140)]
    assert colour_gap(light, grey) == pytest.approx(lightness[1] - lightness[0], rel=1e-3)
    noisy = grey[None] + np.random.default_rng(0).integers(-3, 4, (1, 40, 40, 3)).astype(np.uint8)
    assert colour_gap(noisy, grey) < 0.2
    changed = grey[None].copy()
    changed[:, :, 10:30] = 0
    assert colour_gap(changed, grey) == 0


def test_lag_amplitude_and_blinks_of_known_tracks():
    truth = np.random.default_rng(0).random((2, 60))
    late = [np.concatenate([t[:2], t[:-2]]) for t in truth]
    value, lag = best_lag_correlation(late, list(truth))
    assert value == pytest.approx(1.0) and lag == 2
    assert amplitude([0.5 * t for t in truth], list(truth)) == pytest.approx(0.5)
    eyes = np.ones(100)
    eyes[[0, 30, 31, 60]] = 0.2
    assert blinks_per_minute(eyes) == pytest.approx(3 * 15)


def test_manifold_limit_is_the_99th_percentile_of_the_readers_errors():
    truth = np.zeros((50, 5))
    read = np.column_stack([np.linspace(0, 1, 101), np.zeros(101), np.zeros(101)])
    manifold = MouthManifold.fit(truth, read)
    assert manifold.limit == pytest.approx(0.99)
    assert manifold.outside(np.array([[0.5, 0, 0], [2.0, 0, 0]])) == 0.5


def test_psnr_and_sharpness_of_known_pictures():
    random = np.random.default_rng(0)
    frames = random.integers(40, 200, (2, 16, 16, 3)).astype(np.uint8)
    assert psnr_of(frames + 10, frames) == pytest.approx(20 * np.log10(25.5))
    flat = np.full_like(frames, 9)
    assert sharpness(flat, frames) == 0
    grey = frames.astype(float).mean(-1)
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).double()[None, None]
    laplacian = F.conv2d(torch.from_numpy(grey)[:, None], kernel)[:, 0].numpy()
    assert sharpness(frames, frames // 2) == pytest.approx(
        laplacian.var(axis=(1, 2)).mean() / _half_variance(frames), rel=1e-4
    )


def _half_variance(frames):
    grey = torch.from_numpy((frames // 2).astype(float).mean(-1))[:, None]
    kernel = torch.tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).double()[None, None]
    return F.conv2d(grey, kernel)[:, 0].numpy().var(axis=(1, 2)).mean()
