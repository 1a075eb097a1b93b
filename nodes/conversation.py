"""Behind Encode Speakers and Speaker Masks: several voices on one time line, and their places in the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor
from torch.nn.functional import interpolate

from ..audio.levels import check_waveform
from ..audio.resample import resample
from ..audio.voices import Mixing, arrange_voices, mixed
from ..streaming.speakers import Box, boxes_around_faces, boxes_side_by_side, masks_of_boxes
from .host.audio_encoder import check_audio_encoder
from .host.graft import profile_of
from .types import Speech, TrackedFace
from .voice import describe_speech, window_of

COLOURS = ((0.95, 0.45, 0.25), (0.25, 0.55, 0.95), (0.35, 0.8, 0.4), (0.85, 0.75, 0.3))


def prepare_speakers(
    model: io.Model.Type,
    audios: Sequence[Mapping[str, Any] | None],
    *,
    encoder: io.AudioEncoder.Type,
    mixing: Mixing,
    window: str,
    limit_seconds: float,
) -> Speech:
    """Checked voices of one length at one rate, the highest of theirs; the sound of the file is their sum.

    Raises ValueError for a student that hears one voice, and for anything that Encode Speech refuses, by speaker.
    """
    profile = profile_of(model)
    if not profile.motion_frames:
        raise ValueError(
            f"the student {profile.name!r} hears one voice; use Encode Speech, or load InfiniteTalk"
        )
    check_audio_encoder(encoder, profile)
    rate = max(int(audio["sample_rate"]) for audio in audios if audio)
    clips = [clip_of(audio, speaker=number, rate=rate) for number, audio in enumerate(audios, start=1)]
    voices = tuple(arrange_voices(clips, mixing))
    return Speech(
        profile=profile,
        samples_CS=mixed(voices),
        sample_rate=rate,
        encoder=encoder,
        window=window_of(window, seconds=voices[0].shape[-1] / rate),
        limit_seconds=limit_seconds,
        voices=voices,
        spoken_samples=tuple(clip.shape[-1] for clip in clips),
    )


def clip_of(audio: Mapping[str, Any] | None, *, speaker: int, rate: int) -> Tensor:
    """One speaker's clip (C, S) at another rate. Raises ValueError that names the speaker."""
    own_rate = int(audio["sample_rate"]) if audio else 1
    try:
        clip_CS = check_waveform(audio["waveform"] if audio else None, own_rate)
    except ValueError as error:
        raise ValueError(f"speaker {speaker}: {error}") from error
    if own_rate == rate:
        return clip_CS
    channels = (resample(channel, from_rate=own_rate, to_rate=rate) for channel in clip_CS.cpu().numpy())
    return torch.stack([torch.from_numpy(channel) for channel in channels])


def describe_speakers(speech: Speech) -> str:
    """Lines for the node: the length, and how long each speaker's own recording is."""
    longest, rate = speech.samples_CS.shape[-1], speech.sample_rate
    lines = [
        f"speaker {number}: {samples / rate:.2f} s, silent for the other {(longest - samples) / rate:.2f} s"
        for number, samples in enumerate(speech.spoken_samples, start=1)
    ]
    return "\n".join([describe_speech(speech), *lines])


def speaker_masks(
    image_BHWC: Tensor,
    *,
    painted: Sequence[Tensor],
    boxes: str,
    speakers: int,
    faces: Sequence[TrackedFace] = (),
) -> Tensor:
    """One mask for each speaker, (P, H, W) at the picture's size: painted, of faces, in boxes, or side by side.

    Raises ValueError for a batch, for one mask or face alone, and for boxes that are none.
    """
    height, width = image_BHWC.shape[1:3]
    if not painted:
        given = face_boxes(faces, height=height, width=width) or parse_boxes(boxes)
        return masks_of_boxes(given or boxes_side_by_side(speakers), height=height, width=width)
    if len(painted) < 2:
        raise ValueError(
            f"got {len(painted)} mask; give one for each of two or more speakers, or none for boxes"
        )
    for number, mask in enumerate(painted, start=1):
        if mask.ndim == 3 and mask.shape[0] != 1:
            raise ValueError(f"mask {number} is a batch of {mask.shape[0]}; give one mask for each speaker")
    rows = [mask.reshape(1, 1, *mask.shape[-2:]).float().cpu() for mask in painted]
    return torch.cat([interpolate(row, size=(height, width), mode="nearest")[0] for row in rows])


def face_boxes(faces: Sequence[TrackedFace], *, height: int, width: int) -> list[Box]:
    """Boxes in 0..1 around faces in their first pictures. Raises ValueError for one, and for another picture."""
    if len(faces) == 1:
        raise ValueError("got one face; connect one Track Face for each of two or more speakers, or none")
    boxes = []
    for number, face in enumerate(faces, start=1):
        track = face.track
        if abs(track.width * height - track.height * width) > max(height, width):
            raise ValueError(
                f"face {number} was found in a picture of {track.width}x{track.height}, the portrait is "
                f"{width}x{height}; give Track Face the portrait itself, through Create Video"
            )
        box = track.boxes_F4[int(track.found_F.argmax())] / (2 * (track.width, track.height))
        boxes.append(tuple(float(side) for side in box.clip(0, 1)))
    return boxes_around_faces(boxes)


def parse_boxes(text: str) -> list[Box]:
    """Lines of "left, top, right, bottom" to boxes. Raises ValueError that names the line."""
    boxes = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        try:
            left, top, right, bottom = (float(word) for word in line.replace(",", " ").split())
        except ValueError as error:
            raise ValueError(
                f"got the box {line!r}; expected four numbers from 0 to 1: left, top, right, bottom"
            ) from error
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"the box {line!r} is empty or outside the picture; expected 0 <= left < right <= 1 and "
                "0 <= top < bottom <= 1"
            )
        boxes.append((left, top, right, bottom))
    if len(boxes) == 1:
        raise ValueError("got one box; write one line for each of two or more speakers, or none at all")
    return boxes


def tinted(image_BHWC: Tensor, masks_PHW: Tensor) -> Tensor:
    """The picture with each speaker's mask in a colour: IMAGE (1, H, W, 3)."""
    shown = image_BHWC[:1, :, :, :3].float().clone()
    for mask_HW, colour in zip(masks_PHW, COLOURS, strict=False):
        inside = (mask_HW > 0).to(shown)[None, :, :, None]
        shown = shown * (1 - 0.45 * inside) + 0.45 * inside * torch.tensor(colour)
    return shown
