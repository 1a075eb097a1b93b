"""Who is drawn: style, light, colours, proportions, hair, clothes and what is worn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .colours import Colour, mix, pick, shade
from .head import HeadShape
from .styles import STYLES, Light, Style, tinted

_SKINS = ((255, 226, 204), (246, 208, 178), (232, 184, 148), (212, 156, 116), (182, 124, 86), (146, 96, 66),
          (112, 72, 52))  # fmt: skip
_HAIRS = ((40, 30, 34), (62, 40, 34), (98, 58, 36), (150, 94, 50), (214, 164, 88), (240, 214, 150), (186, 78, 40),
          (168, 168, 178), (232, 232, 238), (74, 72, 124), (206, 104, 130), (58, 118, 124))  # fmt: skip
_HAIR_SHARES = (0.17, 0.14, 0.14, 0.11, 0.10, 0.07, 0.08, 0.05, 0.03, 0.04, 0.04, 0.03)
_IRISES = ((74, 48, 32), (60, 116, 168), (70, 134, 92), (116, 84, 44), (104, 110, 132), (130, 84, 50))
# background, its second colour, clothes, accent: chosen to go together
PALETTES: tuple[tuple[Colour, Colour, Colour, Colour], ...] = (
    ((146, 200, 222), (222, 238, 238), (236, 112, 92), (255, 226, 160)),
    ((250, 206, 168), (255, 236, 214), (60, 104, 132), (240, 122, 86)),
    ((188, 176, 226), (238, 222, 240), (74, 66, 122), (250, 186, 120)),
    ((158, 208, 176), (230, 242, 216), (238, 176, 72), (66, 110, 96)),
    ((244, 170, 168), (255, 220, 206), (70, 120, 122), (255, 240, 220)),
    ((112, 140, 180), (176, 200, 222), (246, 238, 224), (220, 90, 84)),
    ((250, 222, 140), (255, 244, 204), (206, 84, 78), (64, 92, 134)),
    ((96, 112, 128), (152, 168, 178), (212, 148, 80), (236, 226, 210)),
    ((214, 222, 226), (246, 246, 244), (52, 62, 92), (232, 118, 106)),
    ((128, 186, 190), (206, 232, 222), (118, 76, 124), (252, 208, 140)),
)
HAIR_STYLES = ("crop", "quiff", "swept", "bangs", "bob", "long", "wavy", "curly", "afro", "bun", "ponytail", "pigtails",
               "buzz", "bald")  # fmt: skip
_WOMEN = (0.02, 0.02, 0.07, 0.05, 0.17, 0.18, 0.14, 0.07, 0.05, 0.09, 0.08, 0.05, 0.005, 0.005)
_MEN = (0.24, 0.17, 0.18, 0.06, 0.01, 0.03, 0.03, 0.10, 0.04, 0.02, 0.01, 0.0, 0.07, 0.04)
BEARDS = ("none", "stubble", "full", "goatee", "moustache")
HATS = ("none", "beanie", "cap", "band", "headphones")
CLOTHES = ("tee", "shirt", "hoodie", "turtleneck", "jacket", "vneck", "stripes")
BACKDROPS = ("gradient", "disc", "bokeh", "diagonal", "glow")


@dataclass(frozen=True)
class Person:
    """Everything that stays the same while a portrait talks. Lengths are fractions of the picture's side.

    mouth_y: from the centre of the head down; mouth_width: half width of a mouth at full spread. grain: seed of what
    the brush and the backdrop do at random.
    """

    style: Style
    light: Light
    shape: HeadShape
    skin: Colour
    lip: Colour
    hair: Colour
    iris: Colour
    palette: tuple[Colour, Colour, Colour, Colour]
    hair_style: str
    parting: float
    beard: str
    hat: str
    clothes: str
    backdrop: str
    glasses: str
    earrings: bool
    freckles: bool
    lashes: bool
    blush: float
    eye_spacing: float
    eye_width: float
    eye_height: float
    brow_width: float
    nose: float
    mouth_y: float
    mouth_width: float
    lip_thickness: float
    shoulders: float
    grain: int


def _choice(random: np.random.Generator, names: tuple[str, ...], shares: tuple[float, ...]) -> str:
    weights = np.asarray(shares) / sum(shares)
    return names[int(random.choice(len(names), p=weights))]


def _lip(random: np.random.Generator, skin: Colour, *, painted: bool) -> Colour:
    """Lips that stand out from any skin: rosy and darker than light skin, lighter and redder than dark skin."""
    rosy = pick(
        random, ((204, 66, 82), (190, 52, 84), (214, 92, 84)) if painted else ((196, 98, 94), (184, 92, 96))
    )
    if sum(skin) / 3 < 125:
        return mix(shade(rosy, 1.04), skin, 0.18)
    return mix(rosy, skin, 0.10 if painted else 0.30)


def random_person(
    random: np.random.Generator, *, style: str | None = None, skin: int | None = None
) -> Person:
    """Draw a person. The same generator state gives the same person; style (a name of STYLES) and skin (its number,
    0 the lightest, to 6) may be set.
    """
    chosen = STYLES[int(random.integers(len(STYLES)))]
    tone = int(random.integers(len(_SKINS)))
    chosen = next((s for s in STYLES if s.name == style), chosen)
    tone = tone if skin is None else skin
    woman = bool(random.random() < 0.52)
    face = pick(random, _SKINS[tone : tone + 1])
    hairs = np.asarray(_HAIR_SHARES) * (np.where(np.arange(len(_HAIRS)) < 3, 4, 0.35) if tone > 3 else 1)
    hair = pick(random, _HAIRS)
    hair = _HAIRS[int(random.choice(len(_HAIRS), p=hairs / hairs.sum()))] if random.random() < 0.9 else hair
    beard = "none" if woman else _choice(random, BEARDS, (0.46, 0.18, 0.18, 0.09, 0.09))
    hair_style = _choice(random, HAIR_STYLES, _WOMEN if woman else _MEN)
    fits_hat = hair_style not in ("afro", "bun", "quiff", "curly")
    hat = _choice(random, HATS, (0.80, 0.07, 0.05, 0.03, 0.05) if fits_hat else (0.95, 0.0, 0.0, 0.05, 0.0))
    lip = _lip(random, face, painted=woman and random.random() < 0.7)
    side = 1 if random.random() < 0.5 else -1
    colours = PALETTES[int(random.integers(len(PALETTES)))]
    if chosen.name == "night":
        background, second, clothes, accent = colours
        colours = (
            shade(mix(background, (30, 34, 84), 0.72), 0.8),
            mix(second, (52, 50, 110), 0.7),
            clothes,
            accent,
        )
    return Person(
        style=chosen, light=Light(side * random.uniform(0.35, 0.9), -random.uniform(0.25, 0.7)),
        shape=HeadShape(random.uniform(0.232, 0.258), random.uniform(0.330, 0.352),
                        random.uniform(0.26, 0.36) if woman else random.uniform(0.14, 0.28)),
        skin=tinted(chosen, face), lip=tinted(chosen, lip), hair=tinted(chosen, hair),
        iris=tinted(chosen, pick(random, _IRISES if tone < 4 else _IRISES[:1] + _IRISES[3:4])), palette=colours,
        hair_style=hair_style, parting=float(random.choice((-1, 1)) * random.uniform(0.15, 0.5)), beard=beard, hat=hat,
        clothes=str(random.choice(CLOTHES)), backdrop=str(random.choice(BACKDROPS)),
        glasses=_choice(random, ("none", "round", "square"), (0.78, 0.12, 0.10)),
        earrings=bool(random.random() < (0.45 if woman else 0.08)), freckles=bool(random.random() < 0.16 and tone < 5),
        lashes=woman, blush=random.uniform(0.25, 0.55) * (1.0 if woman else 0.6),
        eye_spacing=random.uniform(0.104, 0.116), eye_width=random.uniform(0.058, 0.068),
        eye_height=random.uniform(0.034, 0.043) * (1.12 if woman else 0.95),
        brow_width=random.uniform(0.013, 0.018) if woman else random.uniform(0.018, 0.026),
        nose=random.uniform(0.8, 1.2), mouth_y=random.uniform(0.200, 0.214), mouth_width=random.uniform(0.126, 0.146),
        lip_thickness=random.uniform(0.024, 0.034) if woman else random.uniform(0.019, 0.028),
        shoulders=random.uniform(0.30, 0.36) if woman else random.uniform(0.36, 0.43),
        grain=int(random.integers(1 << 31)),
    )  # fmt: skip
