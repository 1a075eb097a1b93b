"""Pictures and sounds from files, for runs without ComfyUI."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from av.error import FFmpegError
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor


def read_picture(path: str | Path) -> Tensor:
    """(1, H, W, 3) float32 in [0, 1], upright as its camera says, without transparency.

    Raises FileNotFoundError, or ValueError for a file that is no picture.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), dtype=np.float32)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that Pillow can read; use PNG or JPEG") from error
    return torch.from_numpy(pixels / 255.0)[None]


def read_sound(path: str | Path) -> tuple[Tensor, int]:
    """The first sound track of a file: (C, S) float32 at its own rate and channels, and that rate.

    Raises FileNotFoundError, or ValueError for a file without sound or of an unknown kind.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ValueError(f"{path} has no sound track; give a recording of a voice")
            stream = container.streams.audio[0]
            planar = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
            blocks = [block for frame in container.decode(stream) for block in planar.resample(frame)]
            rate = stream.rate
    except FileNotFoundError:
        raise
    except FFmpegError as error:
        raise ValueError(
            f"{path} cannot be read as sound ({error.strerror}); use WAV, FLAC or MP3"
        ) from error
    if not blocks:
        raise ValueError(f"{path} has a sound track without samples; give a recording of a voice")
    samples_CS = np.concatenate([block.to_ndarray() for block in blocks], axis=1)
    return torch.from_numpy(samples_CS), rate
