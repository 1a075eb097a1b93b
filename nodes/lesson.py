"""Behind Teacher Clip: a whole clip's voice and pictures joined to a teacher's MODEL."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from comfy_api.latest import io
from torch import Tensor

from ..audio.rates import latents_for_frames
from .hearing import open_wav2vec2
from .host import memory, teacher
from .host.graft import profile_of
from .host.guided import empty_latent
from .types import Reference, Speech
from .voice import shown_frames

PORTRAIT, LIPS = "omniavatar", "omniavatar_ls"


def plan_lesson(
    model: io.Model.Type,
    speech: Speech,
    *,
    source: Mapping[str, Tensor] | None = None,
    masked: Mapping[str, Tensor] | None = None,
    mask_BHW: Tensor | None = None,
    reference: Reference | None = None,
) -> tuple[io.Model.Type, dict[str, Tensor]]:
    """The teacher's MODEL with one clip on it, and the empty LATENT of its length.

    source, masked: LATENTs of the same video, whole and with its mouth grey, mask_BHW: the mouth, for OmniAvatar-LS.
    reference: the portrait, for OmniAvatar. Raises ValueError, in one sentence, for parts that do not belong together.
    """
    check_lesson(model, speech)
    latents, first = latents_for_frames(shown_frames(speech)), None
    if profile_of(model).name == LIPS:
        known = known_of_video(source, masked, mask_BHW, latents)
    else:
        known = known_of_portrait(reference, latents)
        first = reference.latent_BCTHW
    teacher.bring_audio(model)
    memory.load_together(speech.get_models(), extra_bytes=0)
    with torch.inference_mode():
        tokens = open_wav2vec2(model, speech).tokens(0, latents).float().cpu()
    clip = teacher.attach_clip(model, known_BCTHW=known, tokens_BTE=tokens, first_BCTHW=first)
    return clip, empty_latent((1, 16, *known.shape[2:]))


def check_lesson(model: io.Model.Type, speech: Speech) -> None:
    """A teacher, and a voice prepared for it, heard as a whole."""
    profile = profile_of(model)
    if profile.name not in (PORTRAIT, LIPS):
        hint = "stream it with Stream Chunks" if not profile.offline else "it is no teacher"
        raise ValueError(
            f"got the MODEL of {profile.name!r}, expected {PORTRAIT!r} (OmniAvatar) or {LIPS!r} (OmniAvatar-LS); {hint}"
        )
    if speech.profile.speech != profile.speech:
        raise ValueError(
            "the voice was prepared for another student; connect the same MODEL to Encode Speech"
        )
    if speech.window == "windows" and profile.speech.late_frames:
        raise ValueError(
            f"the teacher {profile.name!r} hears a whole clip; set window on Encode Speech to 'whole clip'"
        )


def known_of_portrait(reference: Reference | None, latents: int) -> Tensor:
    """(1, 17, T, H, W): the portrait at every latent, and a bit that is 0 where it is the picture itself."""
    if reference is None:
        raise ValueError("OmniAvatar starts from a portrait: connect Encode Reference to reference")
    picture = reference.latent_BCTHW.expand(-1, -1, latents, -1, -1)
    unknown = torch.ones_like(picture[:, :1])
    unknown[:, :, 0] = 0
    return torch.cat([picture, unknown], dim=1)


def known_of_video(
    source: Mapping[str, Tensor] | None,
    masked: Mapping[str, Tensor] | None,
    mask_BHW: Tensor | None,
    latents: int,
) -> Tensor:
    """(1, 49, T, H, W): the video's first latent at every latent, the mouth, the video without it, the video."""
    if source is None or masked is None or mask_BHW is None:
        raise ValueError("OmniAvatar-LS repaints the mouth of a video: connect source, masked and mask")
    pictures = [check_latents(part, latents, name) for part, name in ((source, "source"), (masked, "masked"))]
    if pictures[0].shape != pictures[1].shape:
        raise ValueError(
            f"source is {tuple(pictures[0].shape)}, masked {tuple(pictures[1].shape)}; encode the same video twice"
        )
    whole, grey = (teacher.normalised(part) for part in pictures)
    mouth = teacher.latent_mask(mask_BHW, height=whole.shape[-2], width=whole.shape[-1])
    return torch.cat(
        [whole[:, :, :1].expand_as(whole), mouth.expand(-1, -1, *whole.shape[2:]), grey, whole], dim=1
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
