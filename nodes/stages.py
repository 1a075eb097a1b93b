"""Which stage of the running graph an error belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .host.progress import is_out_of_memory

STREAM, DECODE, WRITE = "Stream Chunks", "Decode Stream", "Save Stream"
SAMPLER, UPSCALE, PASTE = "Chunk Sampler", "Upscale Stream", "Paste Face"


class StageError(RuntimeError):
    """An error inside a running stream; its text starts with stage, node and chunk."""


@contextmanager
def stage(name: str, node_id: str | None, *, chunk: int) -> Iterator[None]:
    """Labels what goes wrong inside: "Stream Chunks #12, chunk 37: ...". Stop passes through unchanged."""
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        number = f" #{node_id}" if node_id else ""
        raise with_text(error, f"{name}{number}, chunk {chunk}: {error}") from error


def with_text(error: Exception, text: str) -> Exception:
    """The same error with another text; running out of memory keeps its type, because the host frees memory then."""
    if is_out_of_memory(error):
        return type(error)(text)
    return StageError(text)
