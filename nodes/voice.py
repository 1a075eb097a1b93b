"""Behind Encode Speech: check a voice against a student, and say how long the video will be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..audio.levels import SILENCE_DBFS, check_waveform, decibels, peak_level
from ..audio.rates import frame_count, latents_for_frames
from ..networks.profile import StudentProfile
from ..samplers.schedule import Schedule
from ..streaming.motion import MotionSpec
from .host.audio_encoder import check_audio_encoder, check_encoder_file
from .host.graft import profile_of
from .types import Speech

if TYPE_CHECKING:
    from comfy_api.latest._io import HiddenHolder

WHOLE_CLIP_SECONDS = 60.0
"""Up to here the whole clip is encoded at once by default."""


def prepare_speech(
    model: io.Model.Type,
    audio: Mapping[str, Any] | None,
    *,
    encoder: io.AudioEncoder.Type | None,
    window: str,
    limit_seconds: float,
) -> Speech:
    """A checked voice. audio: the host's AUDIO; window: "auto", "whole clip" or "windows".

    Raises ValueError for no audio, a batch, non-finite samples, or an encoder the student was not trained with.
    """
    profile = profile_of(model)
    check_audio_encoder(encoder, profile)
    sample_rate = int(audio["sample_rate"]) if audio else 1
    samples_CS = check_waveform(audio["waveform"] if audio else None, sample_rate)
    return Speech(
        profile=profile,
        samples_CS=samples_CS,
        sample_rate=sample_rate,
        encoder=None if profile.speech.encoder == "mel" else encoder,
        window=window_of(window, seconds=samples_CS.shape[-1] / sample_rate),
        limit_seconds=limit_seconds,
    )


def window_of(choice: str, *, seconds: float) -> str:
    """ "whole" or "windows"; "auto" goes by the length."""
    whole = seconds <= WHOLE_CLIP_SECONDS if choice == "auto" else choice == "whole clip"
    return "whole" if whole else "windows"


def heard_samples(speech: Speech) -> int:
    """Samples per channel that the video lasts: all of them, or the duration limit."""
    samples = int(speech.samples_CS.shape[-1])
    if speech.limit_seconds <= 0:
        return samples
    return min(samples, max(1, round(speech.limit_seconds * speech.sample_rate)))


def voice_from(speech: Speech, sample: int) -> Speech:
    """The same voice without what lies before a sample."""
    if not sample:
        return speech
    return dataclasses.replace(speech, samples_CS=speech.samples_CS[:, sample:])


def shown_frames(speech: Speech) -> int:
    """Frames of the video: the heard voice's length to the nearest frame, at least one."""
    profile = speech.profile
    return frame_count(
        heard_samples(speech), speech.sample_rate, fps_num=profile.fps_num, fps_den=profile.fps_den
    )


def shown_chunks(speech: Speech) -> int:
    """Chunks that the video is made in."""
    profile = speech.profile
    if profile.motion_frames:
        return motion_plan(profile, samples=heard_samples(speech), sample_rate=speech.sample_rate).chunks
    return -(-latents_for_frames(shown_frames(speech) + profile.discarded_first_frames) // profile.chunk)


def motion_plan(profile: StudentProfile, *, samples: int, sample_rate: int) -> MotionSpec:
    """The chunks of a student with motion frames over a voice, before size and steps are known."""
    schedule = Schedule.from_sigmas(profile.sigmas)
    return MotionSpec(
        profile, schedule, latent_height=2, latent_width=2, samples=samples, sample_rate=sample_rate
    )


def describe_speech(speech: Speech) -> str:
    """One line for the node: seconds -> frames -> chunks, and a word where the voice is silent."""
    profile = speech.profile
    heard, frames, chunks = heard_samples(speech), shown_frames(speech), shown_chunks(speech)
    arrow = "\N{RIGHTWARDS ARROW}"
    text = (
        f"{heard / speech.sample_rate:.2f} s {arrow} {frames} frames at {profile.fps_num / profile.fps_den:g} fps "
        f"{arrow} {chunks} chunks"
    )
    if decibels(peak_level(speech.samples_CS, speech.sample_rate)) < SILENCE_DBFS:
        text += " (silent: the mouth will stay closed)"
    return text


def with_doubt(text: str, speech: Speech, hidden: HiddenHolder | None) -> str:
    """The node's text, and a line where the file of its wav2vec2 seems to be another than the student's.

    hidden: of the running node; None outside a graph, where no file is known. Raises ValueError where it is another.
    """
    if hidden is None:
        return text
    doubt = check_encoder_file(hidden.prompt, hidden.unique_id, speech.profile)
    return f"{text}\n{doubt}" if doubt else text
