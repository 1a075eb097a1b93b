"""Finish now: the wish to end a running stream after its current chunk, as a success.

The route that hears the button runs on the server's thread, the stream on the prompt's; they meet here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

Key = tuple[str, str]


class FinishRequests:
    """The streams that run now, by prompt and node, which of them were asked to finish, and how often one did."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Key, bool] = {}
        self._cut_short: Counter[str] = Counter()

    @contextmanager
    def running(self, prompt_id: str, node_id: str) -> Iterator[None]:
        """While the body runs, this node's stream can be asked to finish."""
        key = (prompt_id, node_id)
        with self._lock:
            self._asked[key] = False
        try:
            yield
        finally:
            with self._lock:
                self._asked.pop(key, None)

    def request(self, prompt_id: str, node_id: str) -> bool:
        """Ask a stream to end after its current chunk; False where no such stream runs."""
        key = (prompt_id, node_id)
        with self._lock:
            if key not in self._asked:
                return False
            self._asked[key] = True
            return True

    def asked(self, node_id: str) -> bool:
        """Whether the stream that this node runs was asked to finish."""
        with self._lock:
            return any(asked for (_, node), asked in self._asked.items() if node == node_id)

    def note_cut_short(self, node_id: str) -> None:
        """A stream of this node ended before its last chunk, because it was asked to."""
        with self._lock:
            self._cut_short[node_id] += 1

    def times_cut_short(self, node_id: str) -> int:
        """How often that happened. As a node's fingerprint it makes the host run a shortened stream again.

        Without it the same graph, queued again, would be answered from the host's cache with the short video.
        """
        with self._lock:
            return self._cut_short[node_id]


FINISH = FinishRequests()
