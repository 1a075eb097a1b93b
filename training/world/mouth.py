"""Drawing one mouth: lips, dark cavity, teeth, tongue."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas
from .colours import shade
from .identity import Identity
from .visemes import MouthShape

_CAVITY = (58, 14, 20)
_TEETH = (250, 248, 242)
_TONGUE = (206, 84, 92)
_MAX_OPENING = 0.145  # fraction of the picture's side
_POINTS = 25


def draw_mouth(canvas: Canvas, who: Identity, shape: MouthShape, *, x: float, y: float) -> None:
    """Draw a mouth centred at (x, y), in picture fractions."""
    half = who.mouth_width * (0.70 + 0.38 * shape.width) * (1 - 0.40 * shape.round)
    opening = _MAX_OPENING * shape.open * (1 - 0.12 * shape.round)
    across = np.linspace(-1, 1, _POINTS)
    power = 2.0 + 0.6 * shape.width
    arch = 1 - np.abs(across) ** power
    y = y + 0.004 - 0.012 * across**2  # corners a little higher than the middle: a friendly rest
    thick = who.lip_thickness * (1 + 0.35 * shape.round)
    bow = 1 - 0.30 * np.exp(-((across / 0.16) ** 2))  # the dip in the middle of the upper lip
    inner = half * (1 - 0.10 * (1 - shape.round))
    upper_in, lower_in = y - 0.36 * opening * arch, y + 0.64 * opening * arch
    upper_out = y - (0.36 * opening + thick) * arch**0.8 * bow
    lower_out = y + (0.64 * opening + 1.15 * thick) * arch**0.8
    xs, xi = x + half * across, x + inner * across
    canvas.polygon(_loop(xs, upper_out, lower_out), who.lip)
    canvas.polygon(_loop(xs, y + 0.3 * thick + 0.64 * opening * arch, lower_out), shade(who.lip, 1.14))
    if shape.open < 0.03:
        canvas.line(list(zip(xi, y + 0.003 * arch, strict=True)), shade(who.lip, 0.45), 0.011)
        return
    canvas.polygon(_loop(xi, upper_in, lower_in), _CAVITY)
    if shape.tongue > 0.05:
        top = np.maximum(upper_in, lower_in - 0.045 * shape.tongue * arch**0.5 * (0.4 + 0.6 * shape.open))
        narrow = x + 0.72 * inner * across
        canvas.polygon(_loop(narrow, top, lower_in - 0.1 * opening * (1 - arch)), _TONGUE)
    if shape.teeth > 0.05:
        edge = np.minimum(lower_in, upper_in + 0.040 * shape.teeth * (arch > 0.12) * arch**0.3)
        canvas.polygon(_loop(x + 0.90 * inner * across, upper_in, edge), _TEETH)


def _loop(xs: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> list[tuple[float, float]]:
    """Closed outline: along the upper curve, back along the lower."""
    forth = list(zip(xs.tolist(), upper.tolist(), strict=True))
    back = list(zip(xs[::-1].tolist(), lower[::-1].tolist(), strict=True))
    return forth + back
