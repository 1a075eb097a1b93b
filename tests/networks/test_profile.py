"""Student profiles: JSON round trip, checks, and the numbers that follow from them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from talkstream.networks.profile import PROFILES, MelProfile, SpeechProfile, StudentProfile

MINI = StudentProfile(
    name="mini",
    speech=SpeechProfile(encoder="mel", feature_slots=1, feature_width=128, mel=MelProfile()),
    sigmas=(1.0, 0.8, 0.0),
    fps_num=25,
    width=96,
    height=96,
    history=(3, 0),
    sink=3,
    text="null",
)


@pytest.mark.parametrize("profile", [*PROFILES.values(), MINI])
def test_json_round_trip(profile):
    again = StudentProfile.from_json(profile.to_json())
    assert again == profile
    assert again.cache_spec == profile.cache_spec


def test_frames_per_chunk():
    assert [MINI.frames_in_chunk(i) for i in range(4)] == [9, 12, 12, 12]
    longer = dataclasses.replace(MINI, chunk=4)
    assert [longer.frames_in_chunk(i) for i in range(3)] == [13, 16, 16]


def test_cache_of_the_profile():
    spec = MINI.cache_spec
    assert [spec.history_of(i) for i in range(4)] == [3, 0, 3, 0]
    assert (spec.chunk, spec.sink, spec.steps, spec.mode, spec.window) == (3, 3, 2, "clean", 9)


def broken(**changes) -> str:
    values = json.loads(MINI.to_json())
    speech = changes.pop("speech", {})
    values["speech"].update(speech)
    return json.dumps({**values, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"windows": 3}, r"unknown keys \['windows'\]"),
        ({"speech": {"layers": 3}}, r"unknown keys \['layers'\]"),
        ({"speech": {"mel": None}}, "do not fit together"),
        ({"speech": {"feature_slots": 0}}, "feature_slots is 0"),
        ({"sigmas": [1.0, 0.5]}, "exactly 0"),
        ({"sigmas": [0.5, 0.5, 0.0]}, "strictly"),
        ({"width": 100}, "multiple of 16"),
        ({"fps_num": 0}, "fps_num is 0"),
        ({"sink_rule": "nowhere"}, "allowed: absolute"),
        ({"first_mask_bit": 2}, "0 or 1"),
        ({"timestep_rounding": "fp8"}, "none, bf16"),
        ({"discarded_first_frames": 9}, "9 frames"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        StudentProfile.from_json(broken(**changes))


def test_missing_keys_are_named():
    values = json.loads(MINI.to_json())
    del values["sigmas"], values["width"]
    with pytest.raises(ValueError, match=r"lacks \['sigmas', 'width'\]"):
        StudentProfile.from_json(json.dumps(values))
