"""Behind Stream Chunks: what leads a student of the MultiTalk family besides its voice."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..networks.profile import StudentProfile
from ..samplers.guidance import Guidance, Projection
from ..streaming.speakers import boxes_side_by_side, masks_of_boxes, token_masks
from .types import GuidanceChoice, Reference, Speech


def rows_of(conditioning: io.Conditioning.Type, *, width: int) -> Tensor:
    """Text rows (1, M, width) of a CONDITIONING. Raises ValueError for several, and for another encoder's."""
    rows_BMD = conditioning[0][0]
    count = max(len(conditioning), rows_BMD.shape[0])
    if count != 1:
        raise ValueError(f"got {count} conditionings, expected one; use a single CLIP Text Encode")
    if rows_BMD.shape[-1] != width:
        raise ValueError(
            f"got a text encoding {rows_BMD.shape[-1]} wide, the student reads {width}; load umT5-XXL with Load CLIP, "
            "type wan"
        )
    return rows_BMD


def guidance_of(
    profile: StudentProfile, choice: GuidanceChoice | None, *, width: int
) -> tuple[Guidance, Tensor | None]:
    """Strengths, and the rows of the negative text where one is read. Raises ValueError where it is missing."""
    choice = choice or GuidanceChoice()
    guidance = Guidance(
        text=profile.text_guidance if choice.text is None else choice.text,
        audio=profile.audio_guidance if choice.audio is None else choice.audio,
        projection=Projection() if choice.adaptive else None,
    )
    if guidance.text == 1.0:
        return guidance, None
    if not choice.negative:
        raise ValueError(
            f"the student {profile.name!r} is led by text at {guidance.text:g}, which needs a negative text; connect "
            "Guidance with one, or set its text to 1"
        )
    return guidance, rows_of(choice.negative, width=width)


def check_unguided(profile: StudentProfile, choice: GuidanceChoice | None) -> None:
    """Raises ValueError for guidance of a student that was distilled to do without."""
    if choice is not None:
        raise ValueError(
            f"the student {profile.name!r} was distilled to need no guidance and takes none; disconnect Guidance"
        )


def masks_of(speech: Speech, reference: Reference) -> Tensor | None:
    """A row of tokens for each speaker and one for the background, (P + 1, tokens); None for one voice.

    Raises ValueError where voices and masks are not as many.
    """
    voices, masks_PL = max(1, len(speech.voices)), reference.masks_PL
    if masks_PL is None:
        return side_by_side(voices, reference) if voices > 1 else None
    masks = masks_PL.shape[0] - 1
    if voices != masks:
        raise ValueError(
            f"there are {voices} voices and {masks} speaker masks; give one mask for each voice, or leave "
            "speaker_masks open for speakers side by side"
        )
    return masks_PL


def side_by_side(voices: int, reference: Reference) -> Tensor:
    """Equal parts of the video's picture, from left to right."""
    boxes = boxes_side_by_side(voices)
    return token_masks(masks_of_boxes(boxes, height=reference.height, width=reference.width))
