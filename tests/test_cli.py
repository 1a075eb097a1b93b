"""The console command on the shipped student: length, sound, repeatability, and a sentence for every refusal."""

from __future__ import annotations

import wave

import av
import numpy as np
import pytest
import torch
from PIL import Image

from talkstream import cli
from talkstream.media import muxer
from talkstream.tests import fakes

RATE = 22050


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A portrait of no special size and 1.1 s of stereo sound."""
    folder = tmp_path_factory.mktemp("cli")
    rows = np.linspace(0, 255, 130, dtype=np.uint8)
    Image.fromarray(np.stack(np.broadcast_arrays(rows[:, None], rows[None, :100], np.uint8(90)), -1)).save(
        folder / "portrait.png"
    )
    seconds = np.arange(round(1.1 * RATE)) / RATE
    tone = 9000 * np.sin(2 * np.pi * 220 * seconds) * np.sin(2 * np.pi * 2 * seconds)
    with wave.open(str(folder / "voice.wav"), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes(np.stack([tone, 0.5 * tone], 1).astype("<i2").tobytes())
    return folder


def run(files, out: str, *more: str) -> int:
    given = ["--image", str(files / "portrait.png"), "--audio", str(files / "voice.wav")]
    return cli.main(["make", *given, "--out", str(files / out), *more])


def pictures(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_make_writes_the_voice_length_in_frames_with_its_own_sound(files, capsys):
    assert run(files, "whole.mp4") == 0
    assert capsys.readouterr().out.strip() == str(files / "whole.mp4")
    assert pictures(files / "whole.mp4").shape == (28, 128, 128, 3)  # 1.1 s at 25 fps is 27.5 frames
    with av.open(str(files / "whole.mp4")) as container:
        sound = container.streams.audio[0]
        assert (sound.rate, sound.layout.nb_channels) == (RATE, 2)


def test_limit_gives_exactly_the_first_frames_and_the_seed_decides(files, monkeypatch):
    """Compared before the encoder, which spends its bits differently when a video ends earlier."""
    made: dict[str, list[torch.Tensor]] = {}
    write = muxer.VideoWriter.write

    def keep(self, frames_FHWC):
        made.setdefault(self.path.stem, []).append(frames_FHWC.clone())
        write(self, frames_FHWC)

    monkeypatch.setattr(muxer.VideoWriter, "write", keep)
    assert run(files, "all.mp4", "--seed", "5") == 0
    assert run(files, "half.mp4", "--seed", "5", "--seconds", "0.5") == 0
    assert run(files, "other.mp4", "--seed", "6", "--seconds", "0.5") == 0
    whole, half, other = (torch.cat(made[name]) for name in ("all", "half", "other"))
    assert half.shape[0] == 13
    assert torch.equal(half, whole[:13])
    assert not torch.equal(half, other)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--audio", "portrait.png", "portrait.png"),
        ("--audio", "missing.wav", "missing.wav"),
        ("--image", "voice.wav", "not a picture"),
        ("--vae", "voice.wav", "voice.wav"),
        ("--out", "portrait.png/out.mp4", "out.mp4"),
    ],
)
def test_what_the_user_can_mend_is_one_sentence(files, capsys, option, value, sentence):
    assert run(files, "wrong.mp4", option, str(files / value)) == 1
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert sentence in told[0]


def test_student_that_needs_more_than_we_have_is_sent_to_comfyui(files, capsys):
    livetalk = fakes.write_tiny_audiopack(files / "livetalk.safetensors")
    assert run(files, "wrong.mp4", "--student", str(livetalk)) == 1
    assert "only its ComfyUI workflow brings" in capsys.readouterr().err
