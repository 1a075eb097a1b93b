"""Speech of the MultiTalk family against the reference: loudness, wav2vec2, windows."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from talkstream.audio.loudness import gain_to, loudness_lufs
from talkstream.audio.sources import ClipSource
from talkstream.audio.windows import mirrored, places_around
from talkstream.networks.multitalk_profiles import CHINESE_WAV2VEC2, INFINITETALK
from talkstream.networks.wav2vec2 import build_wav2vec2
from talkstream.networks.wav2vec2_stream import conv_features, hidden_states, interpolate_vectors
from talkstream.streaming.speech_multitalk import WholeVoice, WindowedVoice, check_encoder
from talkstream.streaming.speech_wav2vec import encoder_from_modules
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, close

RATE = 16000


@pytest.fixture(scope="module")
def tiny(golden_file) -> dict[str, torch.Tensor]:
    """Tensors of the encoder's golden."""
    with safe_open(golden_file("flashtalk_wav2vec_tiny.safetensors"), "pt") as file:
        assert json.loads(file.metadata()["meta"])["transformers"]
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def wav2vec2(tiny):
    return build_wav2vec2(
        {key.removeprefix("sd."): value for key, value in tiny.items() if key.startswith("sd.")}, heads=4
    )


def test_loudness_of_the_reference(golden_file):
    """-23 LUFS as the reference makes it, to float64; the same however the voice is cut."""
    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"), torch.float64)
    voice, expected = golden["loud.in"].numpy(), golden["loud.out"].numpy()
    level = loudness_lufs([voice], RATE)
    close(torch.from_numpy(gain_to(-23.0, level) * voice), torch.from_numpy(expected), 1e-12)
    assert loudness_lufs([voice[:777], voice[777:9000], voice[9000:]], RATE) == pytest.approx(level, abs=1e-9)


def test_silence_and_short_clips_keep_their_level(golden_file):
    """Nothing to measure: a gain of exactly 1."""
    voice = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))["loud.in"].numpy()
    for clip in (0 * voice, voice[: int(0.39 * RATE)], 1e-6 * voice):
        assert gain_to(-23.0, loudness_lufs([clip], RATE)) == 1.0


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_hidden_states(tiny, wav2vec2, kind):
    """Convolutions, interpolation before the transformer, every hidden state: within 1e-4."""
    wave = tiny["wav"][None]
    if kind == "norm":
        wave = (wave - wave.mean()) / (wave.var(correction=0) + 1e-7).sqrt()
    close(wave.float(), tiny[f"{kind}.input_values"], 1e-6)
    features = conv_features(wav2vec2.feature_extractor, tiny[f"{kind}.input_values"])
    close(features, tiny[f"{kind}.features50"], 1e-4)
    vectors = interpolate_vectors(features, 25)
    close(vectors, tiny[f"{kind}.features25"], 1e-4)
    states = hidden_states(wav2vec2.encoder, wav2vec2.feature_projection(vectors))
    states = torch.cat(list(states))
    close(states, tiny[f"{kind}.hidden_states"], 1e-4)
    close(states[1:].movedim(0, 1), tiny[f"{kind}.audio_emb"], 1e-4)


def settings(**changes):
    from dataclasses import replace

    return replace(CHINESE_WAV2VEC2, feature_slots=3, feature_width=48, **changes)


def test_whole_clip_features_are_the_recorded_ones(tiny, wav2vec2):
    """A second of voice, every window of five frames clamped at the ends: within 1e-4."""
    voice = WholeVoice(
        ClipSource(tiny["wav"][None], RATE),
        encoder_from_modules(wav2vec2),
        profile=settings(loudness_lufs=None),
        frames=25,
        fps_num=25,
    )
    expected = tiny["raw.audio_emb"].flatten(1)
    places = places_around(-3, 30, window=5).clamp(0, 24)
    close(voice.windows(-3, 30), expected[places], 1e-4)


def test_the_window_is_the_reference_deque(golden_file, tiny, wav2vec2):
    """Eight seconds that end with the chunk, zeros before the clip; frames 167 to 199 as the reference numbers them."""
    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    recorded = golden["aux.stream_window_indices"]
    assert torch.equal(places_around(167, 33, window=5).clamp(0, 199), recorded)
    clip = tiny["wav"].float()
    buffer = torch.zeros(8 * RATE)
    buffer[8 * RATE - 28 * 640 :] = torch.cat([clip, torch.zeros(28 * 640 - RATE)])
    level = gain_to(-23.0, loudness_lufs([buffer.numpy()], RATE))
    vectors = interpolate_vectors(conv_features(wav2vec2.feature_extractor, level * buffer[None]), 200)
    states = list(hidden_states(wav2vec2.encoder, wav2vec2.feature_projection(vectors)))[1:]
    expected = torch.cat([state[0] for state in states], dim=-1)[recorded]
    voice = WindowedVoice(
        ClipSource(clip[None], RATE), encoder_from_modules(wav2vec2), profile=settings(), fps_num=25
    )
    assert voice.span(-5, 33) == range(-172, 28)
    close(voice.windows(-5, 33), expected, 1e-5)


def test_mirrored_windows_of_infinitetalk(golden_file):
    """Chunk 1 of 50 frames, 24 to 56, in a track with its tail reversed behind it."""
    golden = MultiTalkGolden(golden_file("infinitetalk_tiny.safetensors"))
    track = torch.cat([golden["in.audio_raw1"], golden["aux.audio1_padded_tail"]])
    recorded = golden["aux.window_indices_chunk1"]
    folded = mirrored(places_around(24, 33, window=5), 50)
    assert torch.equal(golden["in.audio_raw1"][folded], track[recorded])
    assert INFINITETALK.speech.tail == "mirror"
    assert mirrored(torch.tensor([-2, 0, 2, 3, 5, 6, 8]), 3).tolist() == [0, 0, 2, 2, 0, 0, 2]


def test_another_encoder_is_named(wav2vec2):
    with pytest.raises(ValueError, match="hears 12 hidden states of 768.* has 3 layers of 48; load chinese"):
        check_encoder(encoder_from_modules(wav2vec2), CHINESE_WAV2VEC2)
