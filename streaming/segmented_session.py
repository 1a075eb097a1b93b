"""The sessions of a stream's segments, run as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from .running import Latents
from .segments import SegmentPlan
from .session import StreamSession


class SegmentedSession:
    """One session after another, as one. A context manager; closing it closes the running one."""

    def __init__(self, plan: SegmentPlan, open_segment: Callable[[int], StreamSession]) -> None:
        """open_segment: a session at the beginning of a segment, which nothing of the one before reaches."""
        self._plan, self._open = plan, open_segment
        self._number, self._next = 0, 0
        self._session: StreamSession | None = None

    def __enter__(self) -> SegmentedSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def chunks(self) -> Iterator[Latents]:
        """Every chunk of every segment, counted through."""
        while self._number < len(self._plan.segments):
            if self._session is None:
                self._session = self._open(self._number)
            for made in self._session.chunks():
                chunk = self._plan.at(self._next)
                self._next += 1
                yield Latents(
                    chunk.index, made.latent_BCTHW, chunk.first_frame, chunk.frames, chunk.skip, chunk.last
                )
            self._close_segment()
            self._number += 1

    def state_dict(self) -> dict[str, Any]:
        """The running segment's state, and which one it is."""
        session = {} if self._session is None else self._session.state_dict()
        return {"segment": self._number, "next": self._next, "session": session}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where state_dict() was taken, with the same plan."""
        self._close_segment()
        self._number, self._next = int(state["segment"]), int(state["next"])
        if state["session"]:
            self._session = self._open(self._number)
            self._session.load_state_dict(state["session"])

    def close(self) -> None:
        """End the stream. Safe to call twice."""
        self._close_segment()
        self._number = len(self._plan.segments)

    def _close_segment(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
