"""TalkStream Mini in EchoTorrent's form: a cache for each step, every other layer without history, its own sink."""

from __future__ import annotations

from dataclasses import replace

from ..networks.profile import StudentProfile
from .mini import mini_profile

ECHO_SIGMAS = (1.0, 0.833333, 0.5, 0.1, 0.0)
"""Four calls a chunk. A step's history is what was denoised at its own level, so the last one is nearly clean."""


def echo_profile() -> StudentProfile:
    """What a runner must know about the student and its tensors do not say (EchoTorrent 3.4, algorithm 2).

    Even layers see 12 latents of history, odd ones the sink and the chunk alone; the sink is the reference, after the
    first chunk its first latent. That latent is the given portrait, as with every Mini, so the sink stays what it was.
    """
    return replace(
        mini_profile(),
        name="talkstream_mini_echo",
        sigmas=ECHO_SIGMAS,
        chunk=4,
        history=(12, 0),
        sink=1,
        sink_rule="before_window",
        sink_source="reference_then_first_generated",
        cache_mode="per_step",
        source="trained by training/recipes/distil_echo.yaml",
    )
