"""Drawing a person in any pose and with any mouth."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .dress import backdrop, draw_neck, shoulders
from .features import draw_brows, draw_cheeks, draw_contour, draw_eyes, draw_nose
from .hair import draw_back_hair, draw_cap, draw_lock
from .head import Head
from .lips import JAW_DROP, draw_lips, mouth_place
from .person import Person
from .pose import Pose
from .styles import dark_side, rounded, tinted
from .surface import SUPERSAMPLING, Surface, Texture
from .visemes import MouthShape
from .wear import draw_bars, draw_beard, draw_ear, draw_glasses, draw_hat, ear_shows

REST = MouthShape(open=0.0, width=0.45, round=0.0, teeth=0.0, tongue=0.0)
_CENTRE = (0.5, 0.475)
_PIVOT_Y = 0.86


class Portrait:
    """One person, with everything that does not move painted once.

    behind: what is behind the person in place of its own backdrop, (H, W, 3) uint8 of any size. Raises ValueError for a
    side that is not a multiple of 16.
    """

    def __init__(self, who: Person, *, side: int, behind: np.ndarray | None = None) -> None:
        if side <= 0 or side % 16:
            raise ValueError(f"side is {side}; expected a multiple of 16, such as 96 or 128")
        self.who, self.side = who, side
        self._pixels = side * SUPERSAMPLING
        self._backdrop = backdrop(who, side) if behind is None else self._fitted(behind)
        body = shoulders(who, side)
        self._body_top = body.getbbox()[1]
        self._body = body.crop((0, self._body_top, body.width, body.height))
        random = np.random.default_rng(who.grain)
        w, h = who.shape.width, who.shape.height
        sheets = {"pixels": self._pixels, "random": random}
        self._skin = rounded(
            who.style, who.light, who.skin, half_width=1.12 * w, half_height=1.12 * h, **sheets
        )
        self._neck = rounded(who.style, who.light, who.skin, half_width=0.16, half_height=0.5, **sheets)
        self._hair = rounded(
            who.style, who.light, who.hair, half_width=1.25 * w, half_height=1.30 * h, shine=0.55, **sheets
        )
        hat = tinted(who.style, who.palette[2])
        self._hat = rounded(who.style, who.light, hat, half_width=1.3 * w, half_height=1.3 * h, **sheets)

    def draw(self, pose: Pose, mouth: MouthShape) -> np.ndarray:
        """The picture: (side, side, 3) uint8."""
        who = self.who
        surface, head = self._posed(pose, jaw=JAW_DROP * mouth.open)
        skin, hair = self._on(self._skin, head), self._on(self._hair, head)
        draw_back_hair(surface, who, head, hair)
        self._draw_neck(surface, pose, head)
        surface.tilt(pose.tilt, (head.x, _PIVOT_Y))
        self._draw_skull(surface, head, skin)
        draw_cheeks(surface, who, head, smile=pose.smile)
        draw_eyes(surface, who, head, pose)
        draw_beard(surface, who, head, hair, opening=mouth.open)
        draw_lips(surface, who, head, mouth, smile=pose.smile)
        draw_nose(surface, who, head, skin)
        draw_bars(surface, who, head)
        draw_cap(surface, who, head, hair, dark_side(who.style, dark_side(who.style, who.skin)))
        for sign in (-1, 1):
            draw_lock(surface, who, head, hair, sign)
            if ear_shows(who) and head.faces(sign * np.pi / 2) > 0.12:
                draw_ear(surface, who, head, skin, sign)
        draw_brows(surface, who, head, pose)
        draw_glasses(surface, who, head)
        draw_hat(surface, who, head, self._on(self._hat, head))
        return surface.finished()

    def place(self, pose: Pose) -> tuple[float, float, float, float]:
        """The mouth's box in this pose: centre x, y and half width, half height, as fractions of the side."""
        surface, head = self._posed(pose, jaw=JAW_DROP)
        return mouth_place(surface, self.who, head)

    def _fitted(self, picture: np.ndarray) -> Image.Image:
        return Image.fromarray(picture).resize((self._pixels, self._pixels), Image.Resampling.BICUBIC)

    def _posed(self, pose: Pose, *, jaw: float) -> tuple[Surface, Head]:
        x, y = _CENTRE[0] + pose.x - 0.035 * pose.yaw, _CENTRE[1] + pose.y
        head = Head(self.who.shape, x=x, y=y, yaw=pose.yaw, pitch=pose.pitch, jaw=jaw)
        surface = Surface(self._backdrop.copy())
        surface.tilt(pose.tilt, (x, _PIVOT_Y))
        return surface, head

    def _on(self, texture: Texture, head: Head) -> Texture:
        return texture.moved(head.x * self._pixels, head.y * self._pixels)

    def _draw_neck(self, surface: Surface, pose: Pose, head: Head) -> None:
        """Neck and body: they follow the head a little and do not tilt."""
        surface.tilt(0.0, (0.5, 1.0))
        sway = 0.4 * pose.x
        shift = round(sway * self._pixels), round(max(0.0, 0.3 * pose.y) * self._pixels)
        chin = head.at(0.0, 0.97 * head.shape.height, 0.5)
        neck = self._neck.moved((0.5 + sway) * self._pixels, 0.70 * self._pixels)
        draw_neck(
            surface, self.who, neck, x=head.at(0, 0, -0.2)[0], chin_x=chin[0], chin_y=chin[1] + head.jaw
        )
        surface.image.paste(self._body, (shift[0], self._body_top + shift[1]), self._body)

    def _draw_skull(self, surface: Surface, head: Head, skin: Texture) -> None:
        who = self.who
        for sign in (-1, 1):
            if ear_shows(who) and head.faces(sign * np.pi / 2) > -0.3:
                draw_ear(surface, who, head, skin, sign)
        outline = head.outline()
        surface.fill(outline, skin)
        draw_contour(surface, who, outline, closed=True)
