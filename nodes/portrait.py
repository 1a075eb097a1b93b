"""Behind Encode Reference: fit a picture to the student's size and encode it."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..media.pictures import fit_picture
from ..networks.profile import StudentProfile
from .host import vae as host_vae
from .host.graft import profile_of
from .types import Reference


def encode_portrait(
    model: io.Model.Type, vae: io.Vae.Type, image_BHWC: Tensor, *, width: int, height: int, fit: str
) -> tuple[Reference, Tensor]:
    """The reference and the crop it was made from, IMAGE (1, height, width, 3).

    Raises ValueError for a batch, a size the student cannot have, or a VAE it was not trained with.
    """
    profile = profile_of(model)
    host_vae.check_vae(vae, student=profile.name)
    if image_BHWC.shape[0] != 1:
        raise ValueError(
            f"got {image_BHWC.shape[0]} pictures, expected one portrait; pick one, or pass them as a list"
        )
    width, height = checked_size(profile, width=width, height=height)
    crop_BHWC = fit_picture(image_BHWC[..., :3], width=width, height=height, fit=fit.split()[0])
    return Reference(host_vae.encode_picture(vae, crop_BHWC), width, height), crop_BHWC


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
