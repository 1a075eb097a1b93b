"""Who is drawn: colours and proportions of one portrait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colours import Colour, mix, pick, shade

_SKINS = ((250, 220, 196), (240, 200, 170), (226, 178, 142), (206, 152, 112), (178, 122, 84), (148, 98, 68))
_HAIRS = ((38, 28, 26), (84, 52, 32), (140, 88, 46), (206, 160, 84), (240, 216, 150), (176, 66, 34),
          (150, 150, 156), (64, 66, 110))  # fmt: skip
_BACKGROUNDS = ((120, 176, 214), (236, 226, 204), (128, 190, 150), (214, 130, 120), (92, 104, 134),
                (240, 196, 110), (170, 150, 204), (206, 212, 218))  # fmt: skip
_CLOTHES = ((52, 72, 120), (190, 56, 58), (50, 122, 92), (240, 240, 236), (66, 62, 66), (224, 150, 50),
            (118, 74, 128), (86, 150, 180))  # fmt: skip
_IRISES = ((60, 42, 30), (56, 96, 140), (62, 112, 72), (92, 66, 38))
HAIR_STYLES = ("short", "long", "bob", "bald", "curly", "bun")


@dataclass(frozen=True)
class Identity:
    """Everything that stays the same while a portrait talks. Lengths are fractions of the picture's side."""

    skin: Colour
    lip: Colour
    hair: Colour
    background: Colour
    clothes: Colour
    iris: Colour
    hair_style: str
    face_width: float
    face_height: float
    eye_spacing: float
    eye_size: float
    mouth_width: float
    mouth_y: float
    lip_thickness: float
    brow_thickness: float
    nose_length: float
    collar: bool
    glasses: bool


def random_identity(random: np.random.Generator) -> Identity:
    """Draw a person. The same generator state gives the same person."""
    skin = pick(random, _SKINS)
    brightness = sum(skin) / 3
    lip = mix(pick(random, ((200, 60, 74), (176, 44, 60), (206, 92, 92))), skin, 0.12)
    lip = shade(lip, 0.72 + 0.28 * (brightness - 100) / 120)
    return Identity(
        skin=skin, lip=lip, hair=pick(random, _HAIRS), background=pick(random, _BACKGROUNDS),
        clothes=pick(random, _CLOTHES), iris=pick(random, _IRISES),
        hair_style=str(random.choice(HAIR_STYLES, p=(0.28, 0.24, 0.2, 0.06, 0.1, 0.12))),
        face_width=random.uniform(0.275, 0.315), face_height=random.uniform(0.355, 0.39),
        eye_spacing=random.uniform(0.115, 0.135), eye_size=random.uniform(0.062, 0.075),
        mouth_width=random.uniform(0.155, 0.175), mouth_y=random.uniform(0.685, 0.705),
        lip_thickness=random.uniform(0.026, 0.036), brow_thickness=random.uniform(0.014, 0.024),
        nose_length=random.uniform(0.08, 0.11), collar=bool(random.random() < 0.5),
        glasses=bool(random.random() < 0.12),
    )  # fmt: skip
