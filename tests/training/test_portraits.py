"""Drawn portraits: the same seed the same picture, mouths that can be read on every face, true boxes."""

from __future__ import annotations

import numpy as np
import pytest

from talkstream.streaming.mouth_mask import MouthMask
from talkstream.training.world.acting import loudness, spoken_acting
from talkstream.training.world.lips import JAW_DROP
from talkstream.training.world.person import random_person
from talkstream.training.world.portrait import REST, Portrait
from talkstream.training.world.pose import POSE_NAMES, Pose
from talkstream.training.world.styles import STYLES
from talkstream.training.world.visemes import VISEMES, MouthShape, Phoneme, mouth_track

SIDE = 128


def _person(seed: int, **wanted):
    return random_person(np.random.default_rng([seed, 0, 1]), **wanted)


def _mouth(name: str) -> MouthShape:
    return MouthShape(*VISEMES[name])


def _crop(picture: np.ndarray, place: tuple[float, ...]) -> np.ndarray:
    x, y, half_width, half_height = (value * SIDE for value in place)
    rows = slice(round(y - half_height), round(y + half_height))
    return picture[rows, round(x - half_width) : round(x + half_width)].astype(float)


def test_the_same_seed_gives_the_same_pixels():
    pose = Pose(yaw=0.5, tilt=0.04, smile=0.5)
    for seed in range(3):
        first, second = (Portrait(_person(seed), side=SIDE).draw(pose, _mouth("EH")) for _ in range(2))
        assert np.array_equal(first, second)
    assert np.abs(first.astype(int) - Portrait(_person(9), side=SIDE).draw(pose, _mouth("EH"))).mean() > 10


def test_drawing_leaves_nothing_behind_for_the_next_frame():
    portrait = Portrait(_person(4), side=SIDE)
    before = portrait.draw(Pose(), REST)
    portrait.draw(Pose(yaw=-1.0, tilt=0.1, x=0.03), _mouth("AA"))
    assert np.array_equal(portrait.draw(Pose(), REST), before)


def test_another_wall_can_stand_behind_a_person():
    wall = np.full((20, 30, 3), (10, 200, 30), np.uint8)
    own, moved = (
        Portrait(_person(4), side=SIDE, behind=behind).draw(Pose(), REST) for behind in (None, wall)
    )
    assert (moved[:4, :4] == wall[0, 0]).all() and not (own[:4, :4] == wall[0, 0]).all()
    assert np.array_equal(moved[60:100, 50:78], own[60:100, 50:78])


@pytest.mark.parametrize("side", [0, 100, -16])
def test_sides_that_the_codec_cannot_take_are_refused(side):
    with pytest.raises(ValueError, match="multiple of 16"):
        Portrait(_person(0), side=side)


@pytest.mark.parametrize("yaw", [-1.0, -0.5, 0.0, 0.4, 1.0])
def test_the_box_holds_what_the_lips_change(yaw):
    """Lips change inside the box; around it only the jaw and a moustache move."""
    pose = Pose(yaw=yaw, tilt=0.05, x=0.01)
    for seed in range(4):
        portrait = Portrait(_person(seed), side=SIDE)
        drawn = [
            portrait.draw(pose, shape).astype(int)
            for shape in (REST, _mouth("AA"), _mouth("IH"), _mouth("OU"))
        ]
        changed = np.any([np.abs(other - drawn[0]).max(axis=-1) > 24 for other in drawn[1:]], axis=0)
        x, y, half_width, half_height = portrait.place(pose)
        columns, rows = np.meshgrid((np.arange(SIDE) + 0.5) / SIDE, (np.arange(SIDE) + 0.5) / SIDE)
        margin = 1.5 / SIDE
        inside = (np.abs(columns - x) < half_width + margin) & (np.abs(rows - y) < half_height + margin)
        jaw = (rows > y - half_height - 0.03) & (rows < y + half_height + JAW_DROP + 0.10)
        assert not (changed & ~inside & ~jaw).any()
        assert (changed & inside).sum() > 0.12 * inside.sum()


@pytest.mark.parametrize(
    "pose",
    [
        Pose(y=0.016, pitch=0.14, smile=0.8), Pose(x=0.02, tilt=0.07, yaw=0.3, pitch=0.1),
        Pose(x=-0.02, tilt=-0.07, yaw=-0.3, pitch=-0.06), Pose(yaw=0.9), Pose(yaw=-0.9, y=0.01),
    ],
)  # fmt: skip
def test_the_mask_of_lip_sync_holds_all_that_a_mouth_changes(pose):
    """Lips, chin, beard, and the neck's shadow under the chin, in the widest poses of speech, song and profile."""
    outside = ~MouthMask.drawn().pixels(SIDE, SIDE).numpy()
    for seed in (0, 1, 2):
        portrait = Portrait(_person(seed), side=SIDE)
        still = portrait.draw(pose, REST)[outside]
        for name in ("AA", "OU", "IH"):
            assert np.array_equal(portrait.draw(pose, _mouth(name))[outside], still)


@pytest.mark.parametrize("style", [style.name for style in STYLES])
def test_every_viseme_can_be_told_on_every_style_and_skin(style):
    """Any two of these mouths differ by at least 4 grey levels over the box, on the darkest skin too."""
    names = ("rest", "FF", "AA", "IH", "OU", "OH", "SS")
    for skin in (0, 3, 5, 6):
        portrait = Portrait(_person(skin + 3, style=style, skin=skin), side=SIDE)
        crops = [_crop(portrait.draw(Pose(), _mouth(name)), portrait.place(Pose())) for name in names]
        differences = [np.abs(a - b).mean() for i, a in enumerate(crops) for b in crops[:i]]
        assert min(differences) > 4.0
        assert np.abs(crops[0] - crops[2]).mean() > 20.0


def test_eyes_close_step_by_step():
    for seed in range(6):
        portrait = Portrait(_person(seed), side=SIDE)
        eyes = [portrait.draw(Pose(eyes_open=o), REST)[50:64, 36:92].astype(int) for o in (1.0, 0.5, 0.0)]
        assert np.abs(eyes[0] - eyes[1]).mean() > 3.0
        assert np.abs(eyes[0] - eyes[2]).mean() > 1.2 * np.abs(eyes[1] - eyes[2]).mean()


def test_a_turned_head_is_the_mirror_of_the_other_side_s_turn():
    """Box and head move to the side that the face looks to, equally far."""
    portrait = Portrait(_person(1), side=SIDE)
    left, front, right = (portrait.place(Pose(yaw=yaw)) for yaw in (-0.8, 0.0, 0.8))
    assert right[0] - 0.5 == pytest.approx(0.5 - left[0], abs=1e-6)
    assert right[0] > front[0] + 0.08
    assert right[2] == pytest.approx(left[2], abs=1e-6)
    assert right[2] < 0.85 * front[2]
    assert right[1::2] == pytest.approx(left[1::2], abs=1e-6)


def test_louder_speech_raises_brows_widens_eyes_and_smiles():
    mouth = mouth_track([Phoneme("a", 0.3, 2.0)], 60)
    tracks = [
        spoken_acting(np.random.default_rng(2), mouth, np.full(60, level), "speaking") for level in (0.1, 1.0)
    ]
    for name in ("brow", "eyes_open", "smile"):
        column = POSE_NAMES.index(name)
        assert (tracks[1][30:45, column] > tracks[0][30:45, column] + 0.02).all()
    assert tracks[0][0, POSE_NAMES.index("yaw")] == 0.0


def test_loudness_follows_the_wave():
    samples = np.zeros(16000, np.float32)
    samples[8000:] = 0.2 * np.sin(np.arange(8000) * 0.1)
    level = loudness(samples, 25)
    assert level[:8].max() == 0.0
    assert level[16:].min() > 0.8


def test_profiles_turn_far_and_others_do_not():
    mouth, quiet, yaw = np.zeros((81, 5)), np.zeros(81), POSE_NAMES.index("yaw")
    for seed in range(12):
        turned = spoken_acting(np.random.default_rng(seed), mouth, quiet, "profile")[:, yaw]
        assert 0.6 < np.abs(turned).max() <= 1.0
        assert np.abs(np.diff(turned)).max() < 0.2
        assert (
            np.abs(spoken_acting(np.random.default_rng(seed), mouth, quiet, "speaking")[:, yaw]).max() < 0.35
        )
