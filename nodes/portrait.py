"""Behind Encode Reference: fit a picture to the student's size and encode it."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..media.covering import cover_masks, cover_picture
from ..media.pictures import fit_picture
from ..networks.profile import StudentProfile
from ..streaming.speakers import token_masks
from .host import vae as host_vae
from .host.graft import profile_of
from .host.multitalk import image_width
from .types import Reference

TOKEN_PIXELS = 16


def encode_portrait(
    model: io.Model.Type,
    vae: io.Vae.Type,
    image_BHWC: Tensor,
    *,
    width: int,
    height: int,
    fit: str,
    seen: io.ClipVisionOutput.Type | None = None,
    masks_PHW: Tensor | None = None,
) -> tuple[Reference, Tensor]:
    """The reference and the crop it was made from, IMAGE (1, height, width, 3).

    seen: the picture through CLIP vision, for students of the MultiTalk family; masks: where each of several speakers
    is in it. Raises ValueError for a batch, a size the student cannot have, a VAE it was not trained with, and masks
    that overlap, are empty, or are for a student that hears one voice.
    """
    profile = profile_of(model)
    host_vae.check_vae(vae, student=profile.name)
    if image_BHWC.shape[0] != 1:
        raise ValueError(
            f"got {image_BHWC.shape[0]} pictures, expected one portrait; pick one, or pass them as a list"
        )
    check_hears_several(profile, masks_PHW)
    width, height = checked_size(profile, width=width, height=height)
    crop_BHWC = crop_of(profile, image_BHWC[..., :3], width=width, height=height, fit=fit.split()[0])
    if profile.family != "multitalk":
        return Reference(host_vae.encode_picture(vae, crop_BHWC), width, height), crop_BHWC
    check_tokens(image_BHWC, width=width, height=height)
    reference = Reference(
        host_vae.encode_picture(vae, crop_BHWC, latents=profile.condition_latents),
        width,
        height,
        picture_BCHW=(2 * crop_BHWC - 1).movedim(-1, 1),
        image_BMC=image_tokens(model, profile, seen),
        vae=vae,
        masks_PL=masks_of(masks_PHW, image_BHWC, width=width, height=height, fit=fit),
    )
    return reference, crop_BHWC


def crop_of(profile: StudentProfile, image_BHWC: Tensor, *, width: int, height: int, fit: str) -> Tensor:
    """The portrait at the video's size, (1, height, width, 3), cut as the student's family was trained to see it."""
    if fit == "cover" and profile.family == "multitalk":
        return cover_picture(image_BHWC, width=width, height=height)
    return fit_picture(image_BHWC, width=width, height=height, fit=fit)


def image_tokens(
    model: io.Model.Type, profile: StudentProfile, seen: io.ClipVisionOutput.Type | None
) -> Tensor:
    """CLIP vision tokens (1, M, C) as the student reads them. Raises ValueError without them, or of another model."""
    remedy = "connect CLIP Vision Encode with clip_vision_h and crop none"
    if seen is None:
        raise ValueError(
            f"the student {profile.name!r} sees the portrait through CLIP vision too and got none; {remedy}"
        )
    tokens_BMC, width = seen.penultimate_hidden_states, image_width(model)
    if tokens_BMC.shape[0] != 1 or tokens_BMC.shape[-1] != width:
        raise ValueError(
            f"got CLIP vision tokens of shape {tuple(tokens_BMC.shape)}, the student {profile.name!r} reads one "
            f"picture {width} wide; {remedy}, of the same portrait"
        )
    return tokens_BMC.float().cpu()


def masks_of(
    masks_PHW: Tensor | None, image_BHWC: Tensor, *, width: int, height: int, fit: str
) -> Tensor | None:
    """Rows on the grid of tokens, the background as the last one; None without masks."""
    if masks_PHW is None:
        return None
    size, wanted = tuple(masks_PHW.shape[-2:]), tuple(image_BHWC.shape[1:3])
    if size != wanted:
        raise ValueError(
            f"the speaker masks are {size[1]}x{size[0]}, the portrait {wanted[1]}x{wanted[0]}; make them of the same "
            "picture, with Speaker Masks"
        )
    if not fit.startswith("cover"):
        raise ValueError("speaker masks are cut as a covering picture is; set fit to cover (crop)")
    masks_PHW = masks_PHW.reshape(-1, *size).float().cpu()
    return token_masks(cover_masks(masks_PHW, height=height, width=width))


def check_hears_several(profile: StudentProfile, masks_PHW: Tensor | None) -> None:
    """Raises ValueError for speaker masks of a student that hears one voice."""
    if masks_PHW is not None and not profile.motion_frames:
        raise ValueError(
            f"the student {profile.name!r} hears one voice and takes no speaker masks; disconnect speaker_masks, "
            "or load InfiniteTalk"
        )


def check_tokens(image_BHWC: Tensor, *, width: int, height: int) -> None:
    """Raises ValueError for a portrait with fewer pixels than the video has tokens."""
    rows, columns = height // TOKEN_PIXELS, width // TOKEN_PIXELS
    got = tuple(image_BHWC.shape[1:3])
    if got[0] < rows or got[1] < columns:
        raise ValueError(
            f"the portrait is {got[1]}x{got[0]} pixels, smaller than the {columns}x{rows} tokens of a video of "
            f"{width}x{height}; use a larger picture"
        )


def checked_size(profile: StudentProfile, *, width: int, height: int) -> tuple[int, int]:
    """The asked size, 0 meaning as trained. Raises ValueError for sides that are no multiple."""
    width, height = width or profile.width, height or profile.height
    multiple = profile.size_multiple
    if width % multiple or height % multiple:
        near = [max(multiple, round(side / multiple) * multiple) for side in (width, height)]
        raise ValueError(
            f"got a size of {width}x{height}, expected multiples of {multiple}: {near[0]}x{near[1]} is near"
        )
    return width, height
