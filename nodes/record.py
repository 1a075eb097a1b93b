"""Behind the write nodes: pull a stream to its end, into a file or into memory."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io, ui

from ..audio.rates import latents_for_frames, sample_at_frame
from ..media.frames import to_bytes
from ..media.muxer import VideoWriter
from ..streaming.saved_run import SavedRun
from .host import progress
from .host.growing_files import announced
from .host.paths import OutputFile, metadata_allowed, reserve_output
from .host.vae import to_vae_space
from .pull import Pull, pulling
from .saving import chunks_between_saves, saved_run
from .stages import WRITE, stage, with_text
from .types import DecodedChunk, Frames

if TYPE_CHECKING:
    from comfy_api.latest._io import HiddenHolder


@dataclass(frozen=True)
class SavedVideo:
    """A finished file, how many frames are in it, and what the node shows."""

    path: Path
    frames: int
    shown: dict[str, Any]


def record(frames: Frames, *, prefix: str, crf: float, save_every: int, hidden: HiddenHolder) -> SavedVideo:
    """Writes the stream to a new numbered file. What was finished survives Stop and errors.

    save_every: chunks between two save points from which a later run can go on; saving.AUTO, or 0 for none.
    """
    with stage(WRITE, hidden.unique_id, chunk=0):
        file = reserve_output(prefix, width=frames.width, height=frames.height)
        try:
            writer = open_writer(frames, file, crf=crf, metadata=file_metadata(hidden))
        except BaseException:
            file.path.unlink(missing_ok=True)
            raise
    try:
        text = write_stream(frames, writer, save_every=save_every, hidden=hidden)
    except BaseException as error:
        partial = keep_partial(writer, file)
        if partial is not None and isinstance(error, Exception) and str(partial) not in str(error):
            raise with_text(error, f"{error}\nWhat was finished is in {partial}") from error
        raise
    progress.show_text(text)
    return SavedVideo(file.path, writer.frames_written, shown(file.path.name, file.subfolder, text))


def write_stream(frames: Frames, writer: VideoWriter, *, save_every: int, hidden: HiddenHolder) -> str:
    """The whole stream into the file, which is then complete. Returns a line about it."""
    every = chunks_between_saves(frames, save_every)
    with saved_run(frames, every=every) as saved:
        with (
            announced(writer.partial_path, hidden.extra_pnginfo),
            pulling(
                frames, node_id=hidden.unique_id, prompt=hidden.prompt, saved=saved, save_every=every
            ) as pull,
        ):
            chunk = write_all(pull, writer, saved)
        with stage(WRITE, hidden.unique_id, chunk=chunk):
            writer.finish()
    return pull.pace.summary()


def open_writer(frames: Frames, file: OutputFile, *, crf: float, metadata: dict[str, str]) -> VideoWriter:
    """The file of a stream, with its sound as it came."""
    return VideoWriter(
        file.path,
        width=frames.width,
        height=frames.height,
        fps=frames.fps,
        audio=sound_track(frames),
        quality=round(crf),
        metadata=metadata,
    )


def write_all(pull: Pull, writer: VideoWriter, saved: SavedRun | None) -> int:
    """Chunk after chunk into the file, with the node's bar and a line of text. Returns the last chunk's number."""
    bar, index = progress.Bar(pull.node_id, pull.frames), 0
    for chunk in pull.chunks():
        index = chunk.index
        with stage(WRITE, pull.node_id, chunk=index):
            writer.write(to_bytes(chunk.pictures_FHWC, low=0.0))
        bar.update(writer.frames_written)
        bar.text(pull.pace.line() + saved_words(saved))
    return index


def saved_words(saved: SavedRun | None) -> str:
    """How much lies on the disk for the case that this process dies."""
    return (
        f", {saved.size_bytes / 1e6:.0f} MB saved to go on from" if saved is not None and saved.saved else ""
    )


def keep_partial(writer: VideoWriter, file: OutputFile) -> Path | None:
    """Completes what there is as ..._partial.mp4 and shows it on the node; None where nothing was written."""
    partial = writer.abort()
    file.path.unlink(missing_ok=True)
    if partial is not None:
        text = f"{writer.frames_written} frames, {writer.seconds:.2f} s finished, in {partial.name}"
        progress.send_executed(shown(partial.name, file.subfolder, text))
        progress.show_text(text)
    return partial


def shown(name: str, subfolder: str, text: str) -> dict[str, Any]:
    """A video in the output folder and a line of text, as the front end takes them."""
    video = ui.PreviewVideo([ui.SavedResult(name, subfolder, io.FolderType.output)])
    return {**video.as_dict(), **ui.PreviewText(text).as_dict()}


def file_metadata(hidden: HiddenHolder) -> dict[str, str]:
    """Workflow and prompt as core's Save Video embeds them; nothing where the user forbids it."""
    if not metadata_allowed():
        return {}
    parts = dict(hidden.extra_pnginfo or {})
    if hidden.prompt is not None:
        parts["prompt"] = hidden.prompt
    return {name: json.dumps(part) for name, part in parts.items()}


def collect(
    frames: Frames, *, start: int, limit: int, hidden: HiddenHolder
) -> tuple[torch.Tensor, dict[str, object], dict[str, torch.Tensor]]:
    """Frames [start, start + limit) as IMAGE, their sound as AUDIO, and the LATENT of the latents that hold them.

    Chunks that are clips of their own (students with motion frames) become a batch of whole clips in the LATENT.

    Nothing before `start` is kept, and nothing after the last wanted chunk is made. Raises ValueError when the stream
    ends before `start`.
    """
    if start >= frames.frames:
        raise ValueError(f"got start {start}, but the stream has {frames.frames} frames: pick an earlier one")
    stop, done = min(frames.frames, start + limit), 0
    pictures_FHWC = torch.empty(stop - start, frames.height, frames.width, 3)
    latents = []
    with pulling(frames, node_id=hidden.unique_id, prompt=hidden.prompt) as pull:
        for chunk in pull.chunks():
            made_FHWC = chunk.pictures_FHWC[max(0, start - chunk.first_frame) : stop - chunk.first_frame]
            first = max(chunk.first_frame, start) - start
            pictures_FHWC[first : first + len(made_FHWC)] = made_FHWC
            done = chunk.first_frame + len(chunk.pictures_FHWC)
            latents.append(wanted_latents(frames, chunk, start=start, stop=stop))
            if done >= stop:
                break
    if done <= start:
        raise ValueError(
            f"the stream was finished after {done} frames, before start {start}: pick an earlier one"
        )
    stop = min(stop, done)
    samples = to_vae_space(torch.cat(latents, dim=0 if frames.stream.profile.motion_frames else 2))
    return pictures_FHWC[: stop - start], sound_of(frames, start=start, stop=stop), {"samples": samples}


def wanted_latents(frames: Frames, chunk: DecodedChunk, *, start: int, stop: int) -> torch.Tensor:
    """The part of a chunk's latents that holds frames of [start, stop), all of it where it is a clip of its own."""
    latent_BCTHW = chunk.latent_BCTHW
    if frames.stream.profile.motion_frames or frames.pasting is not None:
        wanted = chunk.first_frame + len(chunk.pictures_FHWC) > start
        return latent_BCTHW[: int(wanted)].cpu().clone()
    before, held = chunk.index * latent_BCTHW.shape[2], latents_of(frames, start=start, stop=stop)
    inside = slice(max(0, held.start - before), max(0, held.stop - before))
    return latent_BCTHW[:, :, inside].cpu().clone()


def sound_track(frames: Frames) -> tuple[torch.Tensor, int]:
    """The sound of the file, (C, S) and its rate: the voice, or the own one of a video whose face was pasted."""
    if frames.pasting is not None and frames.pasting.original_sound:
        own = frames.stream.source.face.source.audio()
        return own["waveform"][0], int(own["sample_rate"])
    return frames.stream.speech.samples_CS, frames.stream.speech.sample_rate


def latents_of(frames: Frames, *, start: int, stop: int) -> range:
    """The latents, counted from the stream's first, that hold the frames [start, stop)."""
    discarded = frames.stream.profile.discarded_first_frames
    return range(latents_for_frames(start + 1 + discarded) - 1, latents_for_frames(stop + discarded))


def sound_of(frames: Frames, *, start: int, stop: int) -> dict[str, object]:
    """The file's sound from the beginning of one frame to the beginning of another, as AUDIO."""
    samples_CS, rate = sound_track(frames)
    fps = frames.fps
    first, last = (
        sample_at_frame(frame, rate, fps_num=fps.numerator, fps_den=fps.denominator)
        for frame in (start, stop)
    )
    return {"waveform": samples_CS[None, :, first:last], "sample_rate": rate}
