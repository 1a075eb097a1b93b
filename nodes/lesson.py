"""Behind Teacher Clip: a whole clip's voice and pictures joined to a teacher's MODEL."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from comfy_api.latest import io
from torch import Tensor

from ..audio.rates import latents_for_frames
from ..networks.profile import PROFILES
from .hearing import open_wav2vec2
from .host import memory, teacher
from .host.graft import profile_of
from .host.guided import empty_latent
from .types import Speech
from .voice import shown_frames

TEACHER = "omniavatar_ls"


def plan_lesson(
    model: io.Model.Type,
    speech: Speech,
    *,
    source: Mapping[str, Tensor],
    masked: Mapping[str, Tensor],
    mask_BHW: Tensor,
) -> tuple[io.Model.Type, dict[str, Tensor]]:
    """The teacher's MODEL with one clip on it, and the empty LATENT of its length.

    source, masked: LATENTs of the same video, whole and with its mouth grey. Raises ValueError, in one sentence, for
    parts that do not belong together.
    """
    check_lesson(model, speech)
    latents = latents_for_frames(shown_frames(speech))
    pictures = [check_latents(part, latents, name) for part, name in ((source, "source"), (masked, "masked"))]
    if pictures[0].shape != pictures[1].shape:
        raise ValueError(
            f"source is {tuple(pictures[0].shape)}, masked {tuple(pictures[1].shape)}; encode the same video twice"
        )
    whole, grey = (teacher.normalised(part) for part in pictures)
    mouth = teacher.latent_mask(mask_BHW, height=whole.shape[-2], width=whole.shape[-1])
    known = torch.cat(
        [whole[:, :, :1].expand_as(whole), mouth.expand(-1, -1, *whole.shape[2:]), grey, whole], dim=1
    )
    teacher.bring_audio(model)
    memory.load_together(speech.get_models(), extra_bytes=0)
    with torch.inference_mode():
        tokens = open_wav2vec2(model, speech).tokens(0, latents).float().cpu()
    clip = teacher.attach_clip(model, known_BCTHW=known, tokens_BTE=tokens)
    return clip, empty_latent((1, 16, *whole.shape[2:]))


def check_lesson(model: io.Model.Type, speech: Speech) -> None:
    """The one teacher that reads video, and a voice prepared for it."""
    profile = profile_of(model)
    if profile.name != TEACHER:
        hint = "stream it with Stream Chunks" if not profile.offline else "it starts from a portrait"
        raise ValueError(f"got the MODEL of {profile.name!r}, expected {TEACHER!r} (OmniAvatar-LS); {hint}")
    if speech.profile.speech != PROFILES[TEACHER].speech:
        raise ValueError(
            "the voice was prepared for another student; connect the same MODEL to Encode Speech"
        )


def check_latents(latent: Mapping[str, Tensor], latents: int, name: str) -> Tensor:
    """The samples of a LATENT, cut to the voice. Raises ValueError for pictures or a video that is too short."""
    samples = latent["samples"]
    if samples.ndim != 5 or samples.shape[:2] != (1, 16):
        raise ValueError(
            f"{name} is a LATENT of shape {tuple(samples.shape)}, expected (1, 16, T, H, W); encode one video with the "
            "Wan 2.1 VAE"
        )
    if samples.shape[2] < latents:
        raise ValueError(
            f"{name} has {samples.shape[2]} latents, the voice needs {latents} ({4 * latents - 3} frames); give a "
            "longer video, or set limit_seconds on Encode Speech"
        )
    return samples[:, :, :latents]
