"""Which profile a file gets, and why: metadata, signature, the user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from talkstream.model_loaders.detect import detect
from talkstream.model_loaders.profile import choose_profile
from talkstream.networks.profile import (
    AVATARFORCING,
    LIPFORCING,
    LIVETALK,
    METADATA_KEY,
    MelProfile,
    SpeechProfile,
    StudentProfile,
)
from talkstream.tests import layouts


def student(in_dim: int, audio_in: int = layouts.WAV2VEC2_AUDIO_IN, *, own_encoder: bool = False):
    layout = layouts.student(dim=128, ffn_dim=32, layers=6, in_dim=in_dim, text_dim=16, audio_in=audio_in)
    return detect(layout | ({"speech_encoder.convs.0.weight": (8, 8, 3)} if own_encoder else {}))


MINI = StudentProfile(
    name="mini",
    speech=SpeechProfile(encoder="mel", feature_slots=1, feature_width=128, mel=MelProfile()),
    sigmas=(1.0, 0.75, 0.0),
    fps_num=25,
    width=96,
    height=96,
    text="null",
    licence="Apache-2.0",
)


@pytest.mark.parametrize(("in_dim", "profile"), [(33, LIVETALK), (65, LIPFORCING)])
def test_known_channels_give_the_published_profile(in_dim, profile):
    chosen = choose_profile({}, student(in_dim))
    assert replace(chosen, source="") == profile
    assert f"{in_dim} input channels" in chosen.source and "look the same" in chosen.source


def test_metadata_comes_before_the_signature_and_survives_unchanged():
    chosen = choose_profile({METADATA_KEY: MINI.to_json()}, student(33, 512, own_encoder=True))
    assert chosen == replace(MINI, source="the file's own metadata")


def test_a_choice_decides_among_students_that_look_alike():
    """Metadata first, then what the tensors say, then the user: no rule overrules one before it."""
    assert choose_profile({}, student(33), choice="avatarforcing") == replace(
        AVATARFORCING, source="chosen by you"
    )
    assert choose_profile({}, student(49), choice="livetalk").sigmas == LIVETALK.sigmas


@pytest.mark.parametrize(
    ("form", "in_dim", "name"),
    [
        ("unmerged", 33, "avatarforcing"),
        ("unmerged", 65, "lipforcing"),
        ("adapter", 33, "omniavatar"),
        ("adapter", 65, "omniavatar_ls"),
    ],
)
def test_how_a_file_is_stored_tells_look_alikes_apart(form, in_dim, name):
    chosen = choose_profile({}, student(in_dim), form=form)
    assert chosen.name == name and bool(chosen.offline) == (name != "lipforcing")


def test_feature_width_follows_the_tensors():
    chosen = choose_profile({}, student(33, 4 * 14 * 16))
    assert chosen.speech == replace(LIVETALK.speech, feature_width=16)


@pytest.mark.parametrize(
    ("metadata", "signature", "choice", "words"),
    [
        ({}, student(49), None, "no profile is known for an AudioPack student"),
        ({}, student(33), "livetalkk", "choose one of avatarforcing, lipforcing, livetalk"),
        ({}, student(33), "lipforcing", "33 input channels are those of livetalk, avatarforcing, omniavatar"),
        (
            {METADATA_KEY: replace(LIVETALK, name="mine").to_json()},
            student(33),
            "livetalk",
            "by its metadata that it is 'mine', not 'livetalk'; set profile to auto",
        ),
        ({}, student(33, 512, own_encoder=True), None, "no profile in its metadata"),
        ({}, student(33, 512, own_encoder=True), "livetalk", "no profile in its metadata"),
        ({}, student(33, 1000), None, "1000 audio inputs are no multiple"),
        (
            {METADATA_KEY: MINI.to_json()},
            student(33),
            None,
            "needs 512 audio inputs, its audio_proj has 43008",
        ),
        ({METADATA_KEY: "{"}, student(33), None, "cannot be read"),
        ({METADATA_KEY: '{"name": "x", "steps": 4}'}, student(33), None, "unknown keys \\['steps'\\]"),
        ({}, detect(layouts.wan_vae(dim=8)), None, "a Wan VAE, which has no profile"),
    ],
)
def test_refusals_say_what_to_change(metadata, signature, choice, words):
    with pytest.raises(ValueError, match=words):
        choose_profile(metadata, signature, choice=choice)
