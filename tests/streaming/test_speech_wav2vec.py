"""Audio tokens through wav2vec2: whole clip against the plain computation, windows against their promises."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from talkstream.audio.rates import frame_count, latent_frames, latents_for_frames
from talkstream.audio.sources import ClipSource, LiveSource
from talkstream.networks.profile import SpeechProfile
from talkstream.networks.wav2vec2 import Wav2Vec2Config, build_wav2vec2
from talkstream.streaming import speech_wav2vec
from talkstream.streaming.speech_wav2vec import (
    WholeClipSpeech,
    WindowedSpeech,
    check_encoder,
    encoder_from_modules,
    frame_indices,
)
from talkstream.tests.streaming.speech_parts import (
    PROFILE,
    plain_tokens,
    random_audio_proj,
    random_wav2vec2,
    voice,
)


@pytest.fixture(scope="module")
def model():
    return random_wav2vec2()


@pytest.fixture(scope="module")
def audio_proj():
    return random_audio_proj()


@pytest.fixture(scope="module")
def parts(model, audio_proj):
    return encoder_from_modules(model), audio_proj


def whole(clip, rate, parts, latents, *, fps=16, profile=PROFILE, **options):
    return WholeClipSpeech(
        ClipSource(clip, rate), *parts, profile=profile, latents=latents, fps_num=fps, **options
    )


def windowed(source, parts, *, fps=16, profile=PROFILE):
    return WindowedSpeech(source, *parts, profile=profile, fps_num=fps)


def all_tokens(speech, chunks, *, chunk=3):
    return [speech.tokens(chunk * i, chunk) for i in range(chunks)]


@pytest.mark.parametrize(
    ("rate", "channels", "seconds", "latents"),
    [(16000, 1, 6.0, 24), (16000, 2, 5.0, 24), (44100, 2, 4.1, 18), (8000, 1, 3.0, 15), (22050, 1, 0.3, 3)],
)
@pytest.mark.parametrize("block", [256, 37])
def test_whole_clip_equals_the_plain_computation(
    model, audio_proj, parts, monkeypatch, rate, channels, seconds, latents, block
):
    """Longer clips are cut, shorter ones end in silence; blocks change nothing."""
    monkeypatch.setattr(speech_wav2vec, "BLOCK_FEATURES", block)
    clip = voice(rate, seconds, channels)
    expected = plain_tokens(clip, rate, model, audio_proj, latents=latents, fps=16)
    got = whole(clip, rate, parts, latents).tokens(0, latents)
    torch.testing.assert_close(got, expected, atol=2e-5 if rate != 16000 else 1e-5, rtol=0)


def test_whole_clip_at_25_fps_where_every_vector_covers_its_frame(model, audio_proj, parts):
    clip = voice(16000, 3.0)
    expected = plain_tokens(clip, 16000, model, audio_proj, latents=18, fps=25, uncovered_frames=0)
    got = whole(clip, 16000, parts, 18, fps=25, profile=replace(PROFILE, uncovered_frames=0)).tokens(0, 18)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_vectors_that_come_a_frame_late_stand_behind_zeros(model, audio_proj, parts):
    """OmniAvatar: the first latent hears nothing, and every later one what came a frame before."""
    clip, profile = voice(16000, 3.0), replace(PROFILE, uncovered_frames=0, late_frames=1)
    expected = plain_tokens(clip, 16000, model, audio_proj, latents=18, fps=25, uncovered_frames=0, late=1)
    got = whole(clip, 16000, parts, 18, fps=25, profile=profile).tokens(0, 18)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_whole_clip_gives_a_limited_run_the_same_tokens(parts):
    """A duration limit changes how many chunks are asked for, not what they hear."""
    clip = voice(16000, 5.0)
    full, limited = whole(clip, 16000, parts, 21), whole(clip, 16000, parts, 21)
    every = torch.cat(all_tokens(full, 7), dim=1)
    assert torch.equal(torch.cat(all_tokens(limited, 2), dim=1), every[:, :6])
    assert torch.equal(full.tokens(4, 2), every[:, 4:6])


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements of any tensor made while it is active."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


def test_whole_clip_makes_no_tensor_that_grows_like_the_plain_computation(
    model, audio_proj, parts, monkeypatch
):
    """40 s: the largest tensor is one block of convolutions, far below the first convolution of the whole clip."""
    monkeypatch.setattr(speech_wav2vec, "BLOCK_FEATURES", 64)
    clip, latents = voice(16000, 40.0), 162
    block = 64 * 320 // 5 * 8
    with LargestTensor() as ours:
        whole(clip, 16000, parts, latents).tokens(0, 3)
    with LargestTensor() as plain:
        plain_tokens(clip, 16000, model, audio_proj, latents=latents, fps=16)
    assert ours.largest <= 2 * block
    assert plain.largest >= 640000 // 5 * 8
    assert plain.largest > 8 * ours.largest


def test_whole_clip_can_be_stopped(parts):
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        whole(voice(16000, 2.0), 16000, parts, 9, check=stop).tokens(0, 3)


def support_seconds(chunk: int, fps: int, profile: SpeechProfile) -> Fraction:
    """When the chunk's frames and its look-ahead are over."""
    ahead = max(1, round(profile.ahead_seconds * fps))
    return Fraction(latent_frames(3 * chunk, 3).stop + ahead, fps)


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
@pytest.mark.parametrize("fps", [16, 25])
@pytest.mark.parametrize("seconds", [1.0, 2.3])
def test_windows_keep_the_prefix_promise(parts, rate, fps, seconds):
    """Cutting the audio leaves every chunk whose support ends before the cut bit-identical."""
    clip = voice(rate, 4.0, 2)
    cut = clip[:, : int(seconds * rate)]
    full, short = (
        windowed(ClipSource(clip, rate), parts, fps=fps),
        windowed(ClipSource(cut, rate), parts, fps=fps),
    )
    chunks = latents_for_frames(frame_count(cut.shape[1], rate, fps_num=fps)) // 3
    kept = [c for c in range(chunks) if support_seconds(c, fps, PROFILE) <= seconds]
    assert kept
    for chunk in kept:
        assert torch.equal(full.tokens(3 * chunk, 3), short.tokens(3 * chunk, 3))
    last = kept[-1] + 2  # the very next one may end within the slack of a window
    assert not torch.equal(full.tokens(3 * last, 3), short.tokens(3 * last, 3))


def test_windows_do_not_depend_on_the_order_of_calls(parts):
    clip = voice(44100, 4.0)
    forward = all_tokens(windowed(ClipSource(clip, 44100), parts), 5)
    speech = windowed(ClipSource(clip, 44100), parts)
    backward = [speech.tokens(3 * i, 3) for i in reversed(range(5))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_live_voice_gives_the_tokens_of_the_clip(parts, rate):
    """Only the samples of the next window are kept, and each chunk is ready as soon as its window is."""
    clip, live, sent, most = voice(rate, 8.0), LiveSource(rate), 0, 0
    speech, reference = windowed(live, parts), windowed(ClipSource(clip, rate), parts)
    for chunk in range(10):
        start, stop = speech.needed_samples(3 * chunk, 3)
        live.forget(start)
        most = max(most, stop - start)
        if stop < clip.shape[1]:
            live.push(clip[:, sent:stop])
            sent = stop
        elif live.length is None:
            live.push(clip[:, sent:])
            live.close()
        assert torch.equal(speech.tokens(3 * chunk, 3), reference.tokens(3 * chunk, 3))
    seconds = PROFILE.past_seconds + PROFILE.ahead_seconds + 12 / 16
    assert most / rate < seconds + 0.7  # past rounded up to eight frames, one block of the resampler


def test_a_chunk_too_early_says_what_is_missing(parts):
    live = LiveSource(16000)
    live.push(voice(16000, 0.2))
    with pytest.raises(ValueError, match="has not arrived yet"):
        windowed(live, parts).tokens(0, 3)
    with pytest.raises(ValueError, match="needs the whole voice"):
        WholeClipSpeech(live, *parts, profile=PROFILE, latents=3, fps_num=16).tokens(0, 3)


def test_windows_follow_loudness_only_nearby(parts):
    """A shout later in the clip leaves earlier windows alone; the whole-clip mode spreads it everywhere."""
    quiet = voice(16000, 6.0)
    loud = quiet.clone()
    loud[:, 80000:] *= 20
    near, far = (windowed(ClipSource(c, 16000), parts).tokens(3, 3) for c in (quiet, loud))
    assert torch.equal(near, far)
    spread = [whole(c, 16000, parts, 24).tokens(3, 3) for c in (quiet, loud)]
    assert (spread[0] - spread[1]).abs().max() > 1e-3


@pytest.mark.parametrize("level", [0.0, 1e-9, 1.0])
def test_silence_and_a_constant_give_finite_tokens(parts, level):
    clip = torch.full((1, 32000), level)
    assert torch.isfinite(windowed(ClipSource(clip, 16000), parts).tokens(0, 3)).all()
    assert torch.isfinite(whole(clip, 16000, parts, 9).tokens(0, 9)).all()


def test_frame_indices():
    assert frame_indices(range(0, 3), copies=3).tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert frame_indices(range(5, 6), copies=3).tolist() == [[17, 18, 19, 20]]


def test_another_wav2vec2_is_named(parts):
    encoder, _ = parts
    with pytest.raises(
        ValueError, match="hidden size 32, 3 layers.*gives 640; load the wav2vec2 it was trained"
    ):
        check_encoder(encoder, random_audio_proj(width=7 * 32))
    with pytest.raises(
        ValueError, match=r"takes 43008 .* load wav2vec2-base-960h \(hidden size 768, 12 layers\)"
    ):
        check_encoder(encoder, random_audio_proj(width=14 * 768, out=2))
    with pytest.raises(ValueError, match="no 'feature_extractor': it is not a wav2vec2"):
        encoder_from_modules(torch.nn.Linear(1, 1))


def test_latents_after_the_end_are_refused(parts):
    with pytest.raises(ValueError, match="latents 6 .. 9 were asked for; the clip has 9"):
        whole(voice(16000, 1.0), 16000, parts, 9).tokens(6, 4)


def test_checkpoints_in_both_spellings_load(model):
    """Older files call the weight norm's halves weight_g and weight_v and carry a prefix and a word head."""
    old = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("parametrizations.weight.original0", "weight_g")
        old["wav2vec2." + name.replace("parametrizations.weight.original1", "weight_v")] = tensor
    built = build_wav2vec2({**old, "lm_head.weight": torch.zeros(3, 3)}, heads=2)
    assert built.config == model.config
    wave = torch.randn(1, 4000)
    assert torch.equal(built(wave, vectors=5)[-1], model(wave, vectors=5)[-1])
    with pytest.raises(ValueError, match="lacks.*encoder.layer_norm.bias"):
        build_wav2vec2({k: v for k, v in old.items() if not k.endswith("encoder.layer_norm.bias")})
    with pytest.raises(ValueError, match="not a base wav2vec2"):
        build_wav2vec2({"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="must be a multiple"):
        Wav2Vec2Config(width=30, heads=4)
