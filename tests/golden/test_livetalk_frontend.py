"""LiveTalk's way from a waveform to audio vectors, against tensors recorded from its published code."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from talkstream.audio.rates import frames_in_latents
from talkstream.audio.sources import ClipSource
from talkstream.networks.audio_pack import AudioPack, pack_vectors
from talkstream.networks.profile import SpeechProfile
from talkstream.networks.wav2vec2 import build_wav2vec2
from talkstream.networks.wav2vec2_stream import (
    conv_features,
    conv_geometry,
    hidden_states,
    interpolate_vectors,
)
from talkstream.streaming.speech_wav2vec import (
    WholeClipSpeech,
    WindowedSpeech,
    encoder_from_modules,
    wave_scale,
)

FPS = 16


@pytest.fixture(scope="module")
def golden(golden_file) -> dict:
    with safe_open(str(golden_file("livetalk_tiny_frontend.safetensors")), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(("w2v.", "audio."))}  # noqa: SIM118
        return {**tensors, "w2v_config": json.loads(file.metadata()["w2v_config"])}


@pytest.fixture(scope="module")
def model(golden):
    tensors = {key.removeprefix("w2v."): value for key, value in golden.items() if key.startswith("w2v.")}
    return build_wav2vec2(tensors, heads=golden["w2v_config"]["num_attention_heads"])


@pytest.fixture(scope="module")
def student(golden_file) -> dict:
    """The tiny student's audio layers and what they made of the same clip."""
    with safe_open(str(golden_file("livetalk_tiny.safetensors")), "pt") as file:
        names = [k for k in file.keys() if k.startswith(("sd.audio", "in.audio"))]  # noqa: SIM118
        return {key: file.get_tensor(key) for key in names}


@pytest.fixture(scope="module")
def audio_proj(student) -> AudioPack:
    weights = {
        k.removeprefix("sd.audio_proj."): v for k, v in student.items() if k.startswith("sd.audio_proj.")
    }
    pack = AudioPack(weights["proj.weight"].shape[1], weights["proj.weight"].shape[0])
    pack.load_state_dict(weights)
    return pack.requires_grad_(False)


@pytest.fixture(scope="module")
def profile(model) -> SpeechProfile:
    return SpeechProfile("wav2vec2", model.config.layers + 2, model.config.width)


def recorded_vectors(golden) -> torch.Tensor:
    """(A, slots * width): last hidden state, then all hidden states, side by side."""
    last, states = golden["audio.last_hidden_state"][0], golden["audio.hidden_states"][0]
    return torch.cat([last, *states], dim=-1)


def test_sizes_come_from_the_tensors(golden, model):
    config = golden["w2v_config"]
    assert model.config.layers == config["num_hidden_layers"]
    assert model.config.width == config["hidden_size"]
    assert list(model.config.kernels) == config["conv_kernel"]
    assert list(model.config.strides) == config["conv_stride"]
    assert model.config.position_groups == config["num_conv_pos_embedding_groups"]
    assert (conv_geometry(model.feature_extractor).field, conv_geometry(model.feature_extractor).hop) == (
        400,
        320,
    )


def test_normalised_waveform(golden):
    """The clip is cut first (4F - 4 frames), then brought to zero mean and unit variance."""
    expected = golden["audio.input_values"][0]
    wave = golden["audio.waveform"][: len(expected)]
    got = wave_scale(iter(wave.split(7777)), len(wave)).apply(wave, len(wave))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_convolution_features(golden, model):
    got = conv_features(model.feature_extractor, golden["audio.input_values"])
    torch.testing.assert_close(got.transpose(1, 2), golden["audio.conv_features"], atol=1e-5, rtol=0)


def test_hidden_states_from_recorded_features(golden, model):
    """Interpolation comes before the transformer, first on first and last on last."""
    vectors = interpolate_vectors(golden["audio.conv_features"].transpose(1, 2), 93)
    got = torch.stack(list(hidden_states(model.encoder, model.feature_projection(vectors))), dim=1)
    torch.testing.assert_close(got, golden["audio.hidden_states"], atol=1e-5, rtol=0)
    torch.testing.assert_close(got[:, -1], golden["audio.last_hidden_state"], atol=1e-5, rtol=0)


def test_hidden_states_from_the_waveform(golden, model):
    got = torch.stack(model(golden["audio.input_values"], vectors=93), dim=1)
    torch.testing.assert_close(got, golden["audio.hidden_states"], atol=1e-5, rtol=0)


def test_recorded_vectors_pack_and_embed(golden, student, audio_proj):
    """Vectors of the front end's recording are the input of the student's recording; pack, norm, embed."""
    packed_input = student["in.audio_features"][0, :, :, 0, 0]
    vectors = packed_input[3:] if packed_input.shape[0] == 96 else packed_input.T[3:]
    tokens = audio_proj(pack_vectors(vectors[None]))
    torch.testing.assert_close(tokens, student["in.audio_pack"][:, :, 0, 0], atol=1e-5, rtol=0)
    for index, expected in enumerate(student["in.audio_embed"]):
        weight = student[f"sd.audio_cond_projs.{index}.weight"]
        got = tokens[0] @ weight.T + student[f"sd.audio_cond_projs.{index}.bias"]
        torch.testing.assert_close(got, expected[:, 0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [256, 64, 17])
def test_whole_clip_tokens_in_blocks(golden, model, audio_proj, profile, monkeypatch, block):
    """Waveform to tokens without ever holding frames x slots x width equals the recorded vectors packed."""
    monkeypatch.setattr("talkstream.streaming.speech_wav2vec.BLOCK_FEATURES", block)
    expected = audio_proj(pack_vectors(recorded_vectors(golden)[None]))
    source = ClipSource(golden["audio.waveform"][None], 16000)
    speech = WholeClipSpeech(
        source, encoder_from_modules(model), audio_proj, profile=profile, latents=24, fps_num=FPS
    )
    torch.testing.assert_close(speech.tokens(0, 24), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(speech.tokens(5, 3), expected[:, 5:8], atol=1e-5, rtol=0)


def development_window(golden, model, chunk: int, ahead: int) -> torch.Tensor:
    """(12, slots * width): LiveTalk's development recipe for one chunk (its only published streaming numbers).

    Audio of the chunk's frames and `ahead` more on each side, inside 5 s; encoded alone; sides dropped.
    """
    first, stop = (0, 9) if chunk == 0 else (12 * chunk - 3, 12 * chunk + 9)
    total = 81
    start, end = max(0, first - ahead), min(total, stop + ahead)
    wave = golden["audio.waveform"][start * 1000 : end * 1000][: 80000 - start * 1000]
    wave = wave_scale(iter([wave]), len(wave)).apply(wave, len(wave))
    states = model(wave[None], vectors=end - start)
    vectors = torch.cat([states[-1], *states], dim=-1)[0, first - start : stop - start]
    return torch.cat([vectors[:1].expand(3, -1), vectors]) if chunk == 0 else vectors


@pytest.mark.parametrize("ahead", [1, 8])
def test_development_windows(golden, model, ahead):
    """Seven chunks over 5 s, each from its own stretch of sound."""
    got = torch.cat([development_window(golden, model, chunk, ahead) for chunk in range(7)])
    torch.testing.assert_close(got, golden[f"audio.stream_dev.h{ahead}"][0], atol=1e-5, rtol=0)


def test_windows_that_hold_the_whole_clip_equal_it(golden, model, audio_proj, profile):
    """A first window that reaches over everything hears what the whole-clip pass hears of that stretch."""
    frames = frames_in_latents(3)
    source = ClipSource(golden["audio.waveform"][None], 16000)
    speech = WindowedSpeech(source, encoder_from_modules(model), audio_proj, profile=profile, fps_num=FPS)
    window = speech.window(0, 3)
    wave = golden["audio.waveform"][window.start : window.stop]
    states = model(wave_scale(iter([wave]), len(wave)).apply(wave, len(wave))[None], vectors=window.vectors)
    vectors = torch.cat([states[-1], *states], dim=-1)[:, :frames]
    torch.testing.assert_close(speech.tokens(0, 3), audio_proj(pack_vectors(vectors)), atol=1e-5, rtol=0)
