"""Pictures and sounds from files, sample for sample and pixel for pixel."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import torch
from PIL import Image

from talkstream.media.readers import read_picture, read_sound


def write_wav(path, samples_SC: np.ndarray, rate: int):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples_SC.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples_SC.astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (44100, 2), (48000, 1), (22050, 2)])
def test_sound_keeps_every_sample_rate_and_channel(tmp_path, rate, channels):
    samples_SC = np.random.default_rng(3).integers(-32768, 32767, (rate // 3 + 17, channels))
    clip_CS, found = read_sound(write_wav(tmp_path / "a.wav", samples_SC, rate))
    assert found == rate
    assert torch.equal(clip_CS, torch.from_numpy(samples_SC.T / 32768.0).float())


def test_picture_is_upright_and_without_alpha(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[0, 0] = (255, 51, 0, 7)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise by a quarter to show
    image.save(tmp_path / "a.png", exif=exif)
    picture = read_picture(tmp_path / "a.png")
    assert picture.shape == (1, 3, 2, 3)
    assert torch.allclose(picture[0, 0, 1], torch.tensor([1.0, 0.2, 0.0]))
    assert float(picture.sum()) == pytest.approx(1.2)


@pytest.mark.parametrize("read", [read_picture, read_sound])
def test_other_files_are_named(tmp_path, read):
    path = tmp_path / "notes.txt"
    path.write_text("not a recording, not a picture\n" * 50)
    with pytest.raises(ValueError, match=r"notes\.txt"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.wav")


def test_video_without_sound_is_named(tmp_path):
    import av

    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(ValueError, match="no sound track"):
        read_sound(tmp_path / "mute.mp4")
