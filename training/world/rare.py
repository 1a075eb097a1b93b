"""Sentences full of the sounds that other sentences hardly have, in the spelling of each voice's language."""

from __future__ import annotations

import numpy as np

# onsets, nuclei, codas; about one sound in a hundred of sentences.py, or less, is one of these
_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "en": (("th", "th", "thr", "y", "j", "w", "h", "shr", "thw", "zh"),
           ("oy", "oi", "oo", "ow", "you", "ure", "ear", "air", "oo", "ew"),
           ("", "th", "dge", "ng", "thes", "sion", "sure", "zz", "x", "nk")),
    "de": (("z", "pf", "schw", "tsch", "j", "zw", "qu", "kn"), ("ü", "ö", "äu", "eu", "üh", "ei", "au"),
           ("ch", "cht", "tz", "ng", "rz", "", "chs", "tsch")),
    "fr": (("j", "gn", "bu", "ch", "ou", "gu", "r"), ("u", "eu", "oin", "an", "un", "ui", "oi", "ou"),
           ("", "ille", "gne", "ge", "euil", "r", "che")),
    "es": (("ll", "ñ", "ch", "j", "z", "gü", "rr", "y"), ("oy", "ue", "ie", "ui", "au", "u", "ei"),
           ("", "z", "r", "ño", "llo", "j", "cho")),
    "it": (("gl", "gn", "sc", "z", "gi", "ci", "qu"), ("uo", "iu", "oi", "u", "ia", "ie", "ui"),
           ("", "gli", "gno", "zzo", "scio", "ggia")),
}  # fmt: skip

HELD_OUT_RARE = (
    "The boys enjoyed the unusual pleasure of measuring thirty-three thick oysters.",
    "Joyce's youth and beauty soothe the noisy voice of this southern worth.",
    "Roy, could you choose a huge azure toy, or a beige one, for the royal youth?",
    "Both brothers breathe through leather; their mouths employ a usual, casual poise.",
    "Your vision of treasure would push the good cook to join the woolen foyer.",
    "Thatcher thoroughly avoids the thought of soil, oil, moisture and corrosion.",
)


def language(voice_name: str) -> str:
    """Language of an espeak voice such as gmw/en+m7: two letters."""
    return voice_name.split("+")[0].split("/")[-1][:2]


def rare_sentence(random: np.random.Generator, voice_name: str) -> str:
    """Three to eight invented words of rare sounds, spelled for the voice's language."""
    onsets, nuclei, codas = _PARTS[language(voice_name)]
    words = []
    for _ in range(random.integers(3, 9)):
        parts = (
            str(random.choice(part)) for _ in range(random.integers(1, 3)) for part in (onsets, nuclei, codas)
        )
        words.append("".join(parts))
    return " ".join(words) + "."
