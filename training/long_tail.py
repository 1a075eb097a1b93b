"""Hybrid Long Tail Forcing (EchoTorrent 3.4, algorithm 1): streams that live on from update to update.

The paper's algorithm resets its length inside the loop; here is what it means by our reading. A stream's cache, sink,
speech and length l outlive the update. Where l has reached the horizon N, new clips begin: empty caches, the reference
as sink, l = 0. Every update rolls out one window of w latents from where the stream stands. While l < N_hat the student
learns from all of it, later only from its last latents: the stream has drifted by then, and the scores, given the
reference, must not pull all of it back at once. The scores always see the whole window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..networks.audio_pack import FRAMES_PER_LATENT
from .data import Batch, LatentBank, draw_batch
from .parallel import Draws, draw_own
from .windows import Streamer, Window, made_latents, roll_chunks

_CLIPS, _SPEECH = 1, 2  # streams of random numbers beside the step's own


@dataclass(frozen=True)
class LongTailSize:
    """Lengths in latents.

    window: w. horizon: N. long_after: N_hat. tail: latents learnt from once l >= N_hat. switch_share: of the later
    windows before which the clips get other speech. recache: latents that are then written into the cache again under
    it.
    """

    window: int
    horizon: int
    long_after: int
    tail: int = 1
    switch_share: float = 0.0
    recache: int = 0

    def __post_init__(self) -> None:
        if self.horizon % self.window:
            raise ValueError(f"horizon is {self.horizon} latents; expected whole windows of {self.window}")
        if not 1 <= self.tail <= self.window or self.recache < 0 or not 0 <= self.switch_share <= 1:
            raise ValueError(
                f"tail_latents {self.tail}, recache {self.recache}, switch_share {self.switch_share}; expected a "
                f"tail of 1 to {self.window} latents, a recache of at least 0, a share within 0..1"
            )


class LongTail:
    """Windows of streams that go on.

    Randomness: clips are those of the step they began in, their speech that of the step it was last changed in, both
    from (seed, step) and the process's number alone. So the state to keep is those two numbers, l, the cache and the
    latents a recache may need.
    """

    def __init__(
        self, streamer: Streamer, bank: LatentBank, size: LongTailSize, *, clips: int, seed: int
    ) -> None:
        self._streamer, self._bank, self._size = streamer, bank, size
        self._clips, self._seed = clips, seed
        streamer.chunks_of(size.window, "window")
        self._device = next(streamer.student.parameters()).device
        if size.recache:
            streamer.chunks_of(size.recache, "recache")
        self._length, self._begun, self._spoken = size.horizon, 0, 0

    def draw(self, step: int, drawn: Draws, *, learns: bool) -> Window:
        """The next window of the running streams, or the first one of new ones."""
        size = self._size
        if self._length >= size.horizon:
            self._begin(step, drawn.noise)
        self._rollout.generator = drawn.noise
        if self._length and drawn.shared.random() < size.switch_share:
            self._switch(step)
        places = range(self._length, self._length + size.window)
        noised = made_latents(self._batch, places)
        first_scored = size.window - size.tail if self._length >= size.long_after else 0
        scored = tuple(i >= first_scored and made for i, made in enumerate(noised))
        chunk = self._streamer.cache.chunk
        per_chunk = [any(scored[at : at + chunk]) for at in range(0, size.window, chunk)]
        exit_step = self._streamer.exit_step(drawn)
        made = roll_chunks(self._rollout, [learns and chunk for chunk in per_chunk], exit_step=exit_step)
        self._recent = torch.cat([self._recent, made.detach()], dim=2)[:, :, -max(size.recache, 1) :]
        self._length += size.window
        return Window(self._batch, made, places, scored, noised)

    def _begin(self, step: int, generator: torch.Generator) -> None:
        """New clips, empty caches; the rollout writes the reference into the sink before its first chunk."""
        self._begun = self._spoken = step
        self._length = 0
        self._batch = self._clips_of(step)
        self._rollout = self._streamer.start(self._batch, generator)
        self._recent = self._batch.latents[:, :, :0]

    def _switch(self, step: int) -> None:
        """The same clips hear other speech from here on; what the cache holds of the last latents is made anew."""
        self._spoken = step
        self._batch = self._with_speech_of(self._batch, step)
        chunk = self._streamer.cache.chunk
        count = min(self._size.recache, self._rollout.cache.rewindable) // chunk * chunk
        again = self._recent[:, :, self._recent.shape[2] - count :]
        self._rollout.recache(again, self._streamer.hear(self._batch))

    def _clips_of(self, step: int) -> Batch:
        random = draw_own(self._seed, step, stream=_CLIPS)
        drawn = draw_streams(self._bank, random, clips=self._clips, latents=self._size.horizon)
        return drawn.to(self._device)

    def _with_speech_of(self, batch: Batch, step: int) -> Batch:
        random = draw_own(self._seed, step, stream=_SPEECH)
        other = draw_streams(self._bank, random, clips=self._clips, latents=self._size.horizon)
        other = other.to(self._device)
        return replace(
            batch, mel=other.mel, mouth=other.mouth, place=other.place, domain=other.domain, eyes=other.eyes
        )

    def state_dict(self) -> dict[str, Any]:
        """Which clips and speech, how far, and the cache; empty before the first window and between clips."""
        if self._length >= self._size.horizon:
            return {}
        return {
            "begun": self._begun, "spoken": self._spoken, "length": self._length,
            "recent": self._recent.cpu(), "cache": self._rollout.cache.state_dict(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of state_dict."""
        if not state:
            self._length = self._size.horizon
            return
        self._begin(state["begun"], torch.Generator())
        if state["spoken"] != state["begun"]:
            self._spoken = state["spoken"]
            self._batch = self._with_speech_of(self._batch, self._spoken)
            self._rollout = self._streamer.start(self._batch, torch.Generator())
        self._length, self._recent = state["length"], state["recent"].to(self._device)
        self._rollout.cache.load_state_dict(state["cache"], device=self._device)


def draw_streams(bank: LatentBank, random: np.random.Generator, *, clips: int, latents: int) -> Batch:
    """Random clips whose speech goes on for so many latents: behind a clip's own comes that of further random clips.

    Batch.latents are the clips' own, as many as there are. Raises ValueError for lip sync, whose video ends.
    """
    own = bank.latents.shape[2]
    if latents > own and bank.source is not None:
        raise ValueError(
            f"a video of {own} latents cannot be dubbed for {latents}; set horizon to at most {own}"
        )
    batch = draw_batch(bank, random, clips=clips, latents=min(latents, own), warp=True)
    have, rows = min(latents, own), batch.mel.shape[1] // batch.mouth.shape[1]
    while have < latents:
        more = draw_batch(bank, random, clips=clips, latents=min(latents - have + 1, own), warp=True)
        batch = replace(
            batch, mel=_joined(batch.mel, more.mel, rows), mouth=_joined(batch.mouth, more.mouth, 1),
            place=None if batch.place is None else _joined(batch.place, more.place, 1),
            eyes=None if batch.eyes is None else _joined(batch.eyes, more.eyes, 1),
        )  # fmt: skip
        have += more.latents.shape[2] - 1
    assert batch.mel.shape[1] == rows * (FRAMES_PER_LATENT * latents - 3)
    return batch


def _joined(first: Tensor, later: Tensor, rows_per_frame: int) -> Tensor:
    """A clip's rows behind another's; its first frame is left out, so that whole latents are added."""
    return torch.cat([first, later[:, rows_per_frame:]], dim=1)
