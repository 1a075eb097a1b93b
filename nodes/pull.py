"""A running stream as the write nodes see it: chunk after chunk of pictures, with bars and previews upstream."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor

from ..media.frames import to_bytes
from ..samplers.noise import SeededNoise
from ..streaming.replay import Replay
from ..streaming.running import Latents, RunningStream
from ..streaming.saved_run import SavedRun
from .budget import check_memory, describe_memory, picture_bytes, plan_memory, run_bytes
from .enlarge import enlargers_of
from .host import memory, progress
from .host.finishing import FINISH
from .host.pictures import to_picture
from .pace import Pace
from .pasting import paster_of
from .picturing import Decoder, preview_pictures, shown_pictures, student_pictures
from .sessions import open_network, open_session
from .source_video import open_video
from .stages import DECODE, STREAM, stage
from .types import DecodedChunk, Frames

logger = logging.getLogger(__name__)

STREAM_CLASS, DECODE_CLASS = "TalkStreamStreamChunks", "TalkStreamDecodeStream"


class Pull:
    """A running stream; chunks() runs it. Every stage labels its own errors and moves its own bar."""

    def __init__(
        self, frames: Frames, *, node_id: str, prompt: Mapping[str, Any] | None, replay: Replay
    ) -> None:
        self.node_id, self.replay = node_id, replay
        self.frames = frames.frames
        self.pace = Pace(frames.frames, frames.fps)
        self._steps = frames.stream.spec.schedule.steps
        self._chunk = 0
        self._segments = None if frames.stream.source is None else frames.stream.spec.plan
        self.stream_bar = progress.Bar(
            progress.upstream_node(prompt, node_id, STREAM_CLASS), frames.stream.spec.chunks * self._steps
        )
        self.decode_bar = progress.Bar(
            progress.upstream_node(prompt, node_id, DECODE_CLASS), frames.stream.spec.frames
        )
        self.enlargers = enlargers_of(frames, node_id=node_id, prompt=prompt)
        self.paster = paster_of(frames, node_id=node_id, prompt=prompt)
        before = len(self.enlargers) if frames.pasting is None else frames.pasting.enlarged
        faces, pictures = self.enlargers[:before], self.enlargers[before:]
        pasters = [] if self.paster is None else [self.paster.paste]
        self._changes = [
            *(enlarger.all for enlarger in faces), *pasters, *(enlarger.all for enlarger in pictures)
        ]  # fmt: skip
        self.residency = memory.Residency([])
        self.session: RunningStream | None = None
        self.decoder: Decoder | None = None
        self.preview_decoder: Decoder | None = None

    def chunks(self) -> Iterator[DecodedChunk]:
        """The stream in order, to its end or to the chunk after which it was asked to finish.

        Where faces are pasted, a chunk may come in several pieces.
        """
        made = self._decoded()
        for change in self._changes:
            made = change(made)
        for chunk in made:
            self.pace.made(chunk.first_frame + len(chunk.pictures_FHWC))
            yield chunk

    def _decoded(self) -> Iterator[DecodedChunk]:
        """The chunks as the VAE shows them."""
        made = self.replay.chunks(self.session)
        while True:
            with stage(STREAM, self.stream_bar.node_id, chunk=self._chunk):
                self.residency.restore()
                latents = next(made, None)
            if latents is None:
                return
            self.stream_bar.update((self._chunk + 1) * self._steps)
            with stage(DECODE, self.decode_bar.node_id, chunk=self._chunk):
                decoded = self._decode(latents)
            yield decoded
            self._chunk += 1
            if self._chunk < self.replay.plan.chunks and FINISH.asked(self.node_id):
                FINISH.note_cut_short(self.node_id)
                return

    def on_step(self, step: int, _x0: Tensor) -> None:
        """Runs after every network call: moves the bar and stops where the user asked to."""
        self.stream_bar.update(self._chunk * self._steps + step + 1)

    def suspend(self) -> None:
        """The write node wants no more, whether the stream has ended or not."""
        with stage(STREAM, self.stream_bar.node_id, chunk=self._chunk):
            self.replay.suspend()

    def close(self) -> None:
        """Ends the bars upstream."""
        for bar in (self.stream_bar, self.decode_bar, *(enlarger.bar for enlarger in self.enlargers)):
            bar.finish()
        if self.paster is not None:
            self.paster.close()

    def _decode(self, latents: Latents) -> DecodedChunk:
        """One chunk; its newest picture is shown on Decode Stream when a preview is due, by the tiny decoder if any."""
        shown = slice(latents.skip, latents.skip + latents.frames)
        if self._segments is not None and self._segments.starts_segment(latents.index):
            for decoder in filter(None, (self.decoder, self.preview_decoder)):
                decoder.reset()
        if self.preview_decoder is not None:
            self._preview(latents, self.preview_decoder.decode(latents.latent_BCTHW)[shown])
        pictures = self.decoder.decode(latents.latent_BCTHW)[shown]
        if self.preview_decoder is None:
            self._preview(latents, pictures)
        self.decode_bar.update(latents.first_frame + len(pictures))
        return DecodedChunk(latents.index, latents.first_frame, pictures, latents.latent_BCTHW)

    def _preview(self, latents: Latents, pictures_FHWC: Tensor) -> None:
        """Show the newest picture of a chunk, when it is time for one."""
        if len(pictures_FHWC) and self.decode_bar.wants_preview():
            picture = to_picture(to_bytes(pictures_FHWC[-1], low=0.0).numpy())
            self.decode_bar.preview(latents.first_frame + len(pictures_FHWC), picture)


@contextmanager
def pulling(
    frames: Frames,
    *,
    node_id: str,
    prompt: Mapping[str, Any] | None,
    saved: SavedRun | None = None,
    save_every: int = 0,
) -> Iterator[Pull]:
    """Loads the models, opens what is needed, and closes everything again, whatever happens.

    saved, save_every: where the session's state goes, every so many chunks.
    """
    stream = frames.stream
    replay = Replay(
        stream.spec.plan,
        take=stream.take,
        saved=saved,
        save_every=save_every,
        device=stream.model.load_device,
    )
    pull = Pull(frames, node_id=node_id, prompt=prompt, replay=replay)
    logger.info("%s", describe_memory(frames))
    with ExitStack() as stack:
        stack.callback(pull.close)
        stack.enter_context(FINISH.running(progress.executing_prompt(), node_id))
        open_models(pull, frames, stack)
        try:
            yield pull
            pull.suspend()
        except BaseException:
            replay.fail()
            raise


def open_models(pull: Pull, frames: Frames, stack: ExitStack) -> None:
    """The student and its session, unless everything it would make is there already; and the decoder."""
    stream, whole, own = frames.stream, not pull.replay.needs_session, None
    with stage(STREAM, pull.stream_bar.node_id, chunk=0):
        if whole:
            memory.load_together(frames.picture_models(), extra_bytes=picture_bytes(frames))
        else:
            check_memory(stream, partial(plan_memory, frames))
            memory.load_together(frames.get_models(), extra_bytes=run_bytes(frames))
            resident = [stream.model, *stream.reference.get_models(), *frames.picture_models()]
            pull.residency = memory.Residency(resident)
            own = stack.enter_context(student_pictures(stream))
            video = stack.enter_context(open_video(stream.source))
            network = stack.enter_context(open_network(stream))
            session = open_session(
                stream,
                network,
                pictures=own,
                video=video,
                noise=SeededNoise(stream.seed),
                on_step=pull.on_step,
            )
            pull.session = stack.enter_context(session)
        pull.decoder = stack.enter_context(shown_pictures(frames, own))
        pull.preview_decoder = stack.enter_context(preview_pictures(frames))
