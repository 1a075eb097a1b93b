"""Spoken sentences through the host's own wav2vec2 for the MultiTalk family: what each frame of a student hears.

The encoder is core's, of the published sizes with random weights; the expected features are made by core's modules over
one plain waveform. Speech: a sentence of this pack, and a human voice where the goldens lie beside samples.
"""

from __future__ import annotations

import os
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from talkstream.audio.loudness import gain_to, loudness_lufs
from talkstream.tests.fakes import write_wav2vec2
from talkstream.tests.nodes.model_files import write_multitalk

pytestmark = pytest.mark.host

RATE, SECONDS = 16000, 1.6
_ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(os.environ.get("TALKSTREAM_GOLDENS") or _ROOT.parent / "shared" / "goldens").parent / "samples"
VOICES = {
    "spoken by a machine": _ROOT / "assets" / "sentences" / "hello.wav",
    "human": SAMPLES / "talk_1_16k_mono.wav",
}


def speech(path: Path, seconds: float = SECONDS) -> torch.Tensor:
    """The beginning of a recording, (1, S) at 16 kHz."""
    from talkstream.audio.resample import resample

    with wave.open(str(path)) as file:
        rate, content = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(content, np.int16).astype(np.float32) / 32768
    if rate != RATE:
        samples = resample(samples, from_rate=rate, to_rate=RATE)
    return torch.from_numpy(samples[: round(seconds * RATE)].copy())[None]


@pytest.fixture(scope="module", params=VOICES)
def clip(request) -> torch.Tensor:
    if not VOICES[request.param].is_file():
        pytest.skip(f"no {VOICES[request.param].name}: put the samples beside the goldens")
    return speech(VOICES[request.param])


@pytest.fixture(scope="module")
def encoder(host, tmp_path_factory):
    """Core's AUDIO_ENCODER as its loader makes it."""
    import comfy.utils
    from comfy.audio_encoders.audio_encoders import load_audio_encoder_from_sd

    path = write_wav2vec2(tmp_path_factory.mktemp("ears") / "chinese.safetensors")
    return load_audio_encoder_from_sd(comfy.utils.load_torch_file(str(path), safe_load=True))


@pytest.fixture(scope="module")
def students(host, tmp_path_factory):
    """MODELs by name: FlashTalk and InfiniteTalk of two layers."""
    from talkstream.nodes.host.student import load_student

    folder = tmp_path_factory.mktemp("students")
    write_multitalk(folder)
    flash, _ = load_student(folder / "flashtalk.safetensors", profile="auto", precision="fp32")
    pair = folder / "infinitetalk_multi.safetensors", folder / "wan2.1_i2v_480p_14B_fp16.safetensors"
    infinite, _ = load_student(pair[0], profile="auto", precision="fp32", base=pair[1])
    return {"flashtalk": flash, "infinitetalk": infinite}


def audio(clip_CS: torch.Tensor) -> dict:
    return {"waveform": clip_CS[None], "sample_rate": RATE}


@torch.inference_mode()
def expected_features(encoder, wave_S: torch.Tensor, frames: int) -> torch.Tensor:
    """(frames, 12 * 768) by core's modules: -23 LUFS, convolutions, to the frame rate, then the transformer."""
    import comfy.model_management

    comfy.model_management.load_model_gpu(encoder.patcher)
    level = gain_to(-23.0, loudness_lufs([wave_S.numpy()], RATE))
    network = encoder.model
    features = network.feature_extractor((level * wave_S)[None]).transpose(1, 2)
    at_frames = interpolate(features, size=frames, mode="linear", align_corners=True).transpose(1, 2)
    _, states = network.encoder(network.feature_projection(at_frames))
    return torch.cat([state[0] for state in states[1:]], dim=-1)


@torch.inference_mode()
def heard(
    model, encoder, clips: list[torch.Tensor], first: int, frames: int, **options: str
) -> list[torch.Tensor]:
    """Windows of every voice, as the nodes open them."""
    from talkstream.nodes.conversation import prepare_speakers
    from talkstream.nodes.hearing import open_voice
    from talkstream.nodes.voice import prepare_speech

    if len(clips) == 1:
        said = prepare_speech(
            model, audio(clips[0]), encoder=encoder, limit_seconds=0.0, **{"window": "auto", **options}
        )
    else:
        settings = {"mixing": "para", "window": "auto", "limit_seconds": 0.0, **options}
        said = prepare_speakers(model, [audio(one) for one in clips], encoder=encoder, **settings)
    voices = said.voices or (said.samples_CS,)
    return [open_voice(said, voice).windows(first, frames) for voice in voices]


def around(features: torch.Tensor, first: int, frames: int) -> torch.Tensor:
    """Two frames before and behind every one, cut at the ends: (frames, 5, C)."""
    places = torch.arange(first, first + frames)[:, None] + torch.arange(-2, 3)
    return features[places.clamp(0, len(features) - 1)]


def test_a_whole_clip(students, encoder, clip):
    """InfiniteTalk: 40 frames of one pass over all of the voice, loudness of the whole; within 1e-3 of order one."""
    expected = expected_features(encoder, clip[0], 40)
    (made,) = heard(students["infinitetalk"], encoder, [clip], 0, 33)
    torch.testing.assert_close(made, around(expected, 0, 33), rtol=0, atol=1e-3)
    assert 0.1 < float(expected.std()) < 10
    behind = heard(students["infinitetalk"], encoder, [clip], 24, 33)[0][-1, 2]
    torch.testing.assert_close(behind, expected[40 - (56 - 39)], rtol=0, atol=1e-3)  # the tail, in reverse


def test_the_eight_seconds_of_a_stream(students, encoder, clip):
    """FlashTalk, second chunk: frames 23 to 55 are the last 33 of a buffer of 200, with zeros before the voice."""
    buffer = torch.zeros(8 * RATE)
    stop = 56 * 640  # sound of the chunk's last frame, the voice ends before
    placed = torch.zeros(stop)
    placed[: clip.shape[1]] = clip[0]
    buffer[8 * RATE - stop :] = placed
    expected = around(expected_features(encoder, buffer, 200), 167, 33)
    (made,) = heard(students["flashtalk"], encoder, [clip], 23, 33, window="windows")
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-3)


def test_a_quiet_voice_is_heard_like_a_loud_one(students, encoder, clip):
    """-23 LUFS goes before the convolutions, whose norm is not blind to the level of quiet sound."""
    loud, quiet = (heard(students["infinitetalk"], encoder, [gain * clip], 0, 33)[0] for gain in (1.0, 0.01))
    torch.testing.assert_close(loud, quiet, rtol=0, atol=2e-3)


def test_silence_on_a_track_is_what_its_speaker_hears(students, encoder, clip):
    """Together: the second voice is silent behind its end, and its frames there are those of a silent track."""
    model, silent = students["infinitetalk"], torch.zeros_like(clip)
    first, second = heard(model, encoder, [clip, silent], 0, 33)
    torch.testing.assert_close(
        second, around(expected_features(encoder, silent[0], 40), 0, 33), rtol=0, atol=1e-3
    )
    torch.testing.assert_close(first, heard(model, encoder, [clip], 0, 33)[0], rtol=0, atol=1e-4)
    assert float((first - second).abs().mean()) > 0.05


def test_one_after_another(students, encoder, clip):
    """`add`: the second voice begins in the waveform where the first ends; both tracks are as long as both."""
    half = clip[:, : RATE // 2]
    both = heard(students["infinitetalk"], encoder, [half, half], 0, 23, mixing="add")
    quiet = torch.zeros_like(half[0])
    for made, track in zip(both, (torch.cat([half[0], quiet]), torch.cat([quiet, half[0]])), strict=True):
        torch.testing.assert_close(
            made, around(expected_features(encoder, track, 25), 0, 23), rtol=0, atol=1e-3
        )


@torch.inference_mode()
def test_tokens_of_two_speakers_lie_side_by_side(students, encoder, clip):
    """What the network gets: the speaker's own tokens first, the silent one's behind, as if each were alone."""
    from types import SimpleNamespace

    from talkstream.nodes.conversation import prepare_speakers
    from talkstream.nodes.hearing import open_speech

    model = students["infinitetalk"]

    def tokens(*clips: torch.Tensor) -> torch.Tensor:
        said = prepare_speakers(
            model,
            [audio(one) for one in clips],
            encoder=encoder,
            mixing="para",
            window="auto",
            limit_seconds=0.0,
        )
        stream = SimpleNamespace(profile=said.profile, model=model, speech=said)
        return open_speech(stream).chunk_tokens(0, 33)

    silent = torch.zeros_like(clip)
    together, swapped = tokens(clip, silent), tokens(silent, clip)
    assert together.shape == (1, 9, 2 * 4, 16)
    torch.testing.assert_close(together[:, :, :4], swapped[:, :, 4:], rtol=0, atol=1e-5)
    torch.testing.assert_close(together[:, :, 4:], swapped[:, :, :4], rtol=0, atol=1e-5)
    assert float((together[:, :, :4] - together[:, :, 4:]).abs().mean()) > 1e-3
