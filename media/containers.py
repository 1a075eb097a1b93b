"""MP4 containers on disk: open one, copy one, and say in a sentence what went wrong."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import av
from av.container import OutputContainer

# While running. The index comes with the first fragment (delay_moov), not empty before it: only then does it
# carry the edit list that hides the AAC encoder's 1024 samples of run-in (else sound comes 11 to 128 ms late).
# Fragments of one frame that wait for no other track: a killed process loses two frames at most.
RUNNING = {
    "movflags": "delay_moov+default_base_moof+use_metadata_tags",
    "frag_duration": "20000",  # microseconds
    "max_interleave_delta": "1",
}
FINISHED = {"movflags": "faststart+use_metadata_tags"}


class OutputError(OSError):
    """A file could not be written; its text is one sentence, its errno the system's."""

    def __str__(self) -> str:
        return str(self.strerror)


def open_container(path: Path, options: Mapping[str, str], metadata: Mapping[str, str]) -> OutputContainer:
    """A new MP4, RUNNING or FINISHED, with these tags; what the muxer lets go reaches the disk at once."""
    container = av.open(str(path), "w", format="mp4", options={**options, "flush_packets": "1"})
    container.metadata.update(metadata)
    return container


def rewrite(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Copy the packets of `source` into `target` with the index in front; target may be source.

    The target appears complete or not at all. Needs room for a second copy meanwhile.
    """
    finishing = target.with_name(f".{target.stem}.finishing.mp4")
    try:
        _copy_packets(source, finishing, metadata)
        os.replace(finishing, target)
    except BaseException:
        finishing.unlink(missing_ok=True)
        raise


def _copy_packets(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    with (
        av.open(str(source)) as read,
        open_container(target, FINISHED, metadata) as written,
    ):
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)


def free_partial_path(path: Path) -> Path:
    """<name>_partial.mp4 beside `path`, numbered where an earlier run left one."""
    stem = f"{path.stem.rstrip('_')}_partial"
    candidate, number = path.with_name(f"{stem}.mp4"), 2
    while candidate.exists():
        candidate, number = path.with_name(f"{stem}{number}.mp4"), number + 1
    return candidate


@contextlib.contextmanager
def explained(path: Path, *, kept: Path | None = None) -> Iterator[None]:
    """Turn what the system or the encoder raised into one OutputError about `path`.

    kept: the file that holds everything written so far, named in the sentence.
    """
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        code = error.errno or errno.EIO
        rest = f"; what was made so far plays in {kept}" if kept is not None and kept.exists() else ""
        raise OutputError(code, f"{_reason(code, path, error)}{rest}") from error


def _reason(code: int, path: Path, error: Exception) -> str:
    folder = path.parent
    if code == errno.ENOSPC:
        return f"the disk of {folder} is full: free some space, or save to another disk"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"cannot write to {folder}: no permission; choose another output folder"
    if code in (errno.ENOENT, errno.ENOTDIR):
        return f"cannot write {path.name}: {folder} is not a folder; create it, or choose another one"
    return f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
