"""Which wav2vec2 a file holds: the English and the Chinese base have the same shapes, and students know one of them.

As published, facebook/wav2vec2-base-960h is tuned to write words and has a head for them (lm_head), while
chinese-wav2vec2-base (TencentGameMate) was pre-trained alone and has none. Repackaged files may have lost what lies
beside the encoder: of those the name is all that tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .checkpoint import read_checkpoint

ENGLISH, CHINESE = "wav2vec2-base-960h", "chinese-wav2vec2-base"
_WORD_HEAD = ("lm_head.",)
_PRE_TRAINING = ("quantizer.", "project_q.", "project_hid.")
_WORDS = {ENGLISH: ("960h", "english"), CHINESE: ("chinese",)}


@dataclass(frozen=True)
class Mistaken:
    """Why a file is not the wanted encoder. why: follows its name; certain: by its tensors, not its name alone."""

    why: str
    certain: bool


def mistaken_encoder(path: Path, wanted: str) -> Mistaken | None:
    """Whether a base wav2vec2 is another than the wanted one, ENGLISH or CHINESE; None where nothing says so.

    Reads the header alone. Raises FileNotFoundError, or ValueError for a file that is cut off.
    """
    names = read_checkpoint(path).shapes
    if wanted == CHINESE and any(name.startswith(_WORD_HEAD) for name in names):
        return Mistaken(f"holds a head that writes words, as {ENGLISH} does", certain=True)
    if wanted == ENGLISH and any(name.startswith(_PRE_TRAINING) for name in names):
        return Mistaken(f"holds the tensors of pre-training, which {ENGLISH} has not", certain=True)
    other = CHINESE if wanted == ENGLISH else ENGLISH
    said = path.stem.lower()
    if any(word in said for word in _WORDS[other]) and not any(word in said for word in _WORDS[wanted]):
        return Mistaken(f"is {other} by its name", certain=False)
    return None
