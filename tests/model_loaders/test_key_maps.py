"""Wrappers around names: what is taken off, what is kept, what is left alone."""

from __future__ import annotations

import pytest

from talkstream.model_loaders.key_maps import network_prefix, split_audio, strip_wrappers
from talkstream.tests import layouts

STUDENT = layouts.student(dim=128, ffn_dim=32, layers=6, in_dim=33, text_dim=16, audio_in=64)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "_core.",
        "model.",
        "module.",
        "diffusion_model.",
        "model.diffusion_model.",
        "generator.model.",
        "generator_ema.",
        "module._core.",
        "net.",
        "model.net.",
        "generator.base_model.model.",
        "state_dict.transformer.",
    ],
)
def test_every_wrapper_comes_off(prefix):
    assert network_prefix(prefix + name for name in STUDENT) == prefix
    assert strip_wrappers({prefix + name: shape for name, shape in STUDENT.items()}) == STUDENT


def test_averaged_weights_win_over_the_others():
    both = {f"generator.model.{name}": "live" for name in STUDENT}
    both |= {f"generator_ema.model.{name}": "averaged" for name in STUDENT}
    assert strip_wrappers(both) == dict.fromkeys(STUDENT, "averaged")


def test_wrappers_inside_names_come_off():
    wrapped = {
        name.replace("blocks.", "blocks._fsdp_wrapped_module.").replace("ffn.", "_orig_mod.ffn."): shape
        for name, shape in STUDENT.items()
    }
    assert wrapped != STUDENT
    assert strip_wrappers(wrapped) == STUDENT


def test_averaged_weights_win_where_the_others_are_wrapped_deeper():
    both = {f"generator.model.{name}": "live" for name in STUDENT}
    both |= {f"generator_ema.{name}": "averaged" for name in STUDENT}
    assert strip_wrappers(both) == dict.fromkeys(STUDENT, "averaged")


def test_strangers_beside_a_wrapper_stay_visible():
    tensors = {f"model.{name}": 0 for name in STUDENT} | {"optimizer.step": 1}
    assert strip_wrappers(tensors) == dict.fromkeys(STUDENT, 0) | {"optimizer.step": 1}


def test_names_of_other_files_are_left_alone():
    language_model = {"model.layers.0.self_attn.q_proj.weight": (8, 8), "model.norm.weight": (8,)}
    assert strip_wrappers(language_model) == language_model
    assert strip_wrappers(layouts.wan_vae(dim=8)) == layouts.wan_vae(dim=8)


def test_audio_tensors_are_separated_completely():
    mixed = STUDENT | {"speech_encoder.layers.0.weight": (4, 4)}
    wan, audio = split_audio(mixed)
    assert wan == layouts.wan(dim=128, ffn_dim=32, layers=6, in_dim=33, text_dim=16)
    assert audio == layouts.audio_pack(dim=128, layers=6, audio_in=64) | {
        "speech_encoder.layers.0.weight": (4, 4)
    }
    assert len(split_audio(layouts.livetalk())[1]) == 32
