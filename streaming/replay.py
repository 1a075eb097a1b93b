"""The latents of a stream, each made once: what is kept of it already, then what a session makes behind that."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .chunks import ChunkPlan
from .motion import MotionSpec
from .running import Latents, RunningStream
from .saved_run import SavedRun
from .take import Take

logger = logging.getLogger(__name__)


class Replay:
    """One pull of a stream whose length is known.

    chunks() plays the take, or else the saved run, and goes on with a session; both keep what it makes. Call
    suspend() when the pull ends before the stream, fail() when it breaks off.
    """

    def __init__(
        self,
        plan: ChunkPlan | MotionSpec,
        *,
        take: Take,
        saved: SavedRun | None = None,
        save_every: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """saved, save_every: where the session's state goes every so many chunks. device: of the latents handed out."""
        self.plan, self._take, self._saved = plan, take, saved
        self._save_every, self._device = 0 if saved is None else save_every, device
        self._kept: Take | SavedRun = take if saved is None or take.chunks >= saved.chunks else saved
        self.kept_chunks = self._kept.chunks
        self._session: RunningStream | None = None

    @property
    def needs_session(self) -> bool:
        """Whether anything is still to be made."""
        return self.kept_chunks < self.plan.chunks

    def chunks(self, session: RunningStream | None) -> Iterator[Latents]:
        """Every chunk in order. session: at the stream's beginning; None where nothing is still to be made."""
        for index in range(self.kept_chunks):
            latent = self._kept.read(index)
            self._keep(index, latent)
            yield self._replayed(index, latent)
        if not self.needs_session:
            return
        if self.kept_chunks:
            session.load_state_dict(self._kept.load_state())
        self._session = session
        for made in session.chunks():
            self._keep(made.index, made.latent_BCTHW)
            yield made
            if self._due(made):
                self._save()

    def suspend(self) -> None:
        """The pull ends here although the stream goes on: the next one continues where this one stopped."""
        if self._take.complete or self._take.dropped:
            return
        if self._session is not None:
            self._take.save_state(self._session.state_dict())
        self._take.rewind()

    def fail(self) -> None:
        """The pull broke off: keep only what another one can go on from."""
        self._take.rewind()

    def _replayed(self, index: int, latent_BCTHW: Tensor) -> Latents:
        chunk = self.plan.at(index)
        return Latents(
            index, latent_BCTHW.to(self._device), chunk.first_frame, chunk.frames, chunk.skip, chunk.last
        )

    def _keep(self, index: int, latent_BCTHW: Tensor) -> None:
        self._take.append(index, latent_BCTHW)
        if self._save_every:
            with self._saving():
                self._saved.append(index, latent_BCTHW)

    def _due(self, made: Latents) -> bool:
        return bool(self._save_every) and not made.last and (made.index + 1) % self._save_every == 0

    def _save(self) -> None:
        """A save point behind the newest chunk; its clean pass runs now instead of with the next chunk."""
        with self._saving():
            self._saved.save_state(self._session.state_dict())

    @contextmanager
    def _saving(self) -> Iterator[None]:
        """A disk that cannot take the state ends the saving, not the stream."""
        try:
            yield
        except OSError as error:
            self._save_every = 0
            logger.warning(
                "TalkStream saves no more of this run: %s (%s)", self._saved.folder, error.strerror
            )
