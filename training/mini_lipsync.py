"""TalkStream Mini lip sync: the Mini's network with a video beside the portrait."""

from __future__ import annotations

from dataclasses import replace

from ..networks.profile import StudentProfile
from .mini import NETWORK, mini_profile

LIPSYNC_NETWORK = replace(NETWORK, in_dim=65)


def lipsync_profile() -> StudentProfile:
    """What a runner must know about the student and its tensors do not say: no latent is given, all are masked."""
    return replace(
        mini_profile(),
        name="talkstream_mini_lipsync",
        clamp_first_latent=False,
        first_mask_bit=1,
        source="trained by training/recipes/lipsync.yaml",
    )
