"""Files to networks: every tensor lands where it belongs, or the load stops with a list."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from talkstream.model_loaders.build import build_audio_modules, build_network, open_student
from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.profile import LIVETALK, METADATA_KEY, MelProfile, SpeechProfile
from talkstream.networks.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from talkstream.tests import fakes, layouts

SIZES = {"dim": 128, "ffn_dim": 64, "layers": 6, "text_dim": 32, "audio_in": 4 * 14 * 16}
LAYOUT = layouts.student(**SIZES, in_dim=33)


@pytest.fixture
def tiny(tmp_path):
    return fakes.write_tiny_audiopack(tmp_path / "tiny.safetensors", **SIZES)


def write(tmp_path, layout, **options):
    return fakes.write_layout(tmp_path / "tiny.safetensors", layout, **options)


def refusal(path) -> str:
    with pytest.raises(ValueError) as caught:
        open_student(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and "\n" not in sentence
    return sentence


@pytest.mark.parametrize("prefix", ["", "_core.", "model.diffusion_model."])
def test_network_holds_the_tensors_of_the_file_bit_for_bit(tmp_path, prefix):
    path = fakes.write_tiny_audiopack(tmp_path / "tiny.safetensors", **SIZES, prefix=prefix)
    stored = load_file(str(path))
    student = open_student(path)
    network = build_network(student.tensors, student.config)
    state = network.state_dict()
    assert {prefix + name for name in state} == set(stored)
    assert all(torch.equal(state[name], stored[prefix + name]) for name in state)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))


def test_dtype_is_kept_or_changed_once(tmp_path):
    path = fakes.write_tiny_audiopack(tmp_path / "tiny.safetensors", **SIZES, dtype=torch.bfloat16)
    student = open_student(path)
    kept = build_network(student.tensors, student.config)
    assert {p.dtype for p in kept.parameters()} == {torch.bfloat16}
    widened = build_network(student.tensors, student.config, dtype=torch.float32)
    assert {p.dtype for p in widened.parameters()} == {torch.float32}
    assert torch.equal(widened.head.head.weight, kept.head.head.weight.float())


def test_two_halves_are_the_whole(tiny):
    student = open_student(tiny)
    wan, audio = student.wan_tensors(), student.audio_tensors()
    assert {name: tuple(t.shape) for name, t in wan.items()} == layouts.wan(
        dim=128, ffn_dim=64, layers=6, in_dim=33, text_dim=32
    )
    assert set(audio) == set(LAYOUT) - set(wan) and len(audio) == 8


def test_audio_modules_compute_what_the_whole_network_does(tiny):
    student = open_student(tiny)
    network = build_network(student.tensors, student.config)
    modules = build_audio_modules(student.audio_tensors(), student.profile)
    packed = pack_vectors(torch.randn(1, 9, 14 * 16))
    tokens = modules.audio_proj(packed)
    assert torch.equal(tokens, network.audio_proj(packed))
    for ours, theirs in zip(modules.audio_cond_projs, network.audio_cond_projs, strict=True):
        assert torch.equal(ours(tokens), theirs(tokens))
    assert modules.speech_encoder is None
    assert set(modules.state_dict()) == set(student.audio_tensors())


def test_student_says_what_it_is_and_why(tmp_path):
    path = fakes.write_tiny_audiopack(tmp_path / "a.safetensors", **SIZES)
    text = open_student(path).describe()
    assert "AudioPack student (width 128, 6 layers, 33 input channels)" in text
    assert "profile livetalk: its signature" in text
    assert "chosen by you" in open_student(path, choice="avatarforcing").describe()
    own = json.loads(LIVETALK.to_json()) | {"name": "mine"}
    own["speech"]["feature_width"] = 16
    path = fakes.write_tiny_audiopack(tmp_path / "b.safetensors", **SIZES, profile=own)
    assert "profile mine: the file's own metadata" in open_student(path).describe()


def mini_file(tmp_path, **changes):
    """A student with a speech encoder of its own: 40 mel bins, width 16, 12 mel frames (120 ms) of look-ahead."""
    encoder = {
        "speech_encoder.conv1.weight": (24, 40, 6),
        "speech_encoder.conv2.weight": (24, 24, 6),
        "speech_encoder.blocks.0.conv.weight": (24, 24, 5),
        "speech_encoder.blocks.0.mix.weight": (24, 24, 1),
        "speech_encoder.out.weight": (16, 24, 1),
    }
    encoder |= {name.replace("weight", "bias"): shape[:1] for name, shape in encoder.items()}
    layout = layouts.student(dim=128, ffn_dim=64, layers=6, in_dim=33, text_dim=32, audio_in=4 * 16)
    layout |= encoder | changes
    speech = SpeechProfile("mel", 1, 16, ahead_seconds=0.12, mel=MelProfile(bins=40))
    profile = replace(LIVETALK, name="mini", speech=speech, text="null")
    layout = {name: shape for name, shape in layout.items() if shape}
    return write(tmp_path, layout, metadata={METADATA_KEY: profile.to_json()})


def test_own_speech_encoder_is_built_from_its_tensors_and_profile(tmp_path):
    path = mini_file(tmp_path)
    student = open_student(path)
    assert student.signature.own_speech_encoder and student.profile.name == "mini"
    modules = build_audio_modules(student.audio_tensors(), student.profile)
    assert modules.speech_encoder.config == SpeechEncoderConfig(
        bins=40, width=16, hidden=24, blocks=1, ahead_mel=12
    )
    stored = load_file(str(path))
    direct = SpeechEncoder(SpeechEncoderConfig(bins=40, width=16, hidden=24, blocks=1, ahead_mel=12))
    direct.load_state_dict({n[15:]: t for n, t in stored.items() if n.startswith("speech_encoder.")})
    mel = torch.randn(1, 36, 40)
    assert torch.equal(modules.speech_encoder(mel), direct(mel))
    assert set(modules.state_dict()) == set(student.audio_tensors())
    network = build_network(student.tensors, student.config)
    assert not any(name.startswith("speech_encoder") for name in network.state_dict())


def test_speech_encoder_is_accounted_too(tmp_path):
    lost = {"speech_encoder.conv2.bias": None}
    assert "speech encoder tensors do not fit: 1 missing" in refusal(mini_file(tmp_path, **lost))
    assert "no speech_encoder.conv1.weight" in refusal(
        mini_file(tmp_path, **{"speech_encoder.conv1.weight": None})
    )
    fewer = {"speech_encoder.conv1.weight": (24, 32, 6)}
    assert "makes 16 features of 32 mel bins, its profile says 16 of 40" in refusal(
        mini_file(tmp_path, **fewer)
    )
    names = SpeechEncoder(SpeechEncoderConfig(blocks=1)).state_dict(prefix="speech_encoder.")
    all_lost = dict.fromkeys(names)
    assert "needs the student's own speech encoder" in refusal(mini_file(tmp_path, **all_lost))


def test_missing_tensors_are_listed_with_their_number(tmp_path):
    partial = {name: s for name, s in LAYOUT.items() if not name.startswith("audio_cond_projs.1")}
    assert "2 missing (audio_cond_projs.1.weight, audio_cond_projs.1.bias); the file was saved" in (
        refusal(write(tmp_path, partial))
    )
    partial = {name: s for name, s in LAYOUT.items() if ".cross_attn." not in name}
    sentence = refusal(write(tmp_path, partial))
    assert "60 missing (blocks.0.cross_attn.q.weight, " in sentence and ", ...)" in sentence


@pytest.mark.parametrize("lost", [(4,), (5,), (3, 4, 5)])
def test_lost_blocks_are_a_loss_not_a_smaller_network(tmp_path, lost):
    starts = tuple(f"blocks.{i}." for i in lost)
    partial = {name: s for name, s in LAYOUT.items() if not name.startswith(starts)}
    sentence = refusal(write(tmp_path, partial))
    assert f"{27 * len(lost)} missing (blocks.{lost[0]}.modulation" in sentence
    assert "saved or converted incompletely" in sentence


def test_unknown_and_reshaped_tensors_stop_the_load(tmp_path):
    more = LAYOUT | {"blocks.0.extra.weight": (4, 4), "optimizer.step": (1,)}
    sentence = refusal(write(tmp_path, more))
    assert (
        "2 unknown (blocks.0.extra.weight, optimizer.step)" in sentence and "training checkpoint" in sentence
    )
    other = LAYOUT | {"blocks.3.ffn.2.bias": (64,)}
    assert "1 of another size (blocks.3.ffn.2.bias: [64], expected [128])" in refusal(write(tmp_path, other))


def test_scales_of_quantised_weights_are_no_strangers(tmp_path):
    scaled = LAYOUT | {f"blocks.{i}.ffn.0.scale_weight": (1,) for i in range(6)} | {"scaled_fp8": (2,)}
    student = open_student(write(tmp_path, scaled))
    assert student.signature.quantised
    with pytest.raises(ValueError, match="only ComfyUI's loader"):
        build_network(student.tensors, student.config)


def test_audio_half_is_accounted_too(tiny):
    student = open_student(tiny)
    audio = student.audio_tensors()
    del audio["audio_cond_projs.0.bias"]
    with pytest.raises(ValueError, match=r"1 missing \(audio_cond_projs.0.bias\)"):
        build_audio_modules(audio, student.profile)
    with pytest.raises(ValueError, match="keep those about 32 tensors"):
        build_audio_modules({"audio_proj.proj.scale_weight": torch.ones(1)}, student.profile)
    with pytest.raises(ValueError, match="load the whole file"):
        build_audio_modules({}, student.profile)


def test_metadata_key_is_the_one_profiles_are_stored_under():
    assert METADATA_KEY == "talkstream_profile"
