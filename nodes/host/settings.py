"""What the user set in ComfyUI's settings dialog, as far as running nodes need it.

The host keeps settings per user and tells a node no user: they are read for the one user of an ordinary
installation, and are the defaults under --multi-user.
"""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
from comfy.cli_args import args

TAKE_LIMIT_GB = "TalkStream.Takes.LimitGB"
SAVED_LIMIT_GB = "TalkStream.SavedRuns.LimitGB"
DEFAULTS = {TAKE_LIMIT_GB: 8.0, SAVED_LIMIT_GB: 20.0}
ONLY_USER = "default"


def number(name: str) -> float:
    """A setting by its id; its default where it was never changed or holds no number."""
    value = _stored().get(name)
    return float(value) if isinstance(value, int | float) and value >= 0 else DEFAULTS[name]


def size_bytes(name: str) -> int:
    """A setting in gigabytes, as bytes."""
    return round(number(name) * 1e9)


def _stored() -> dict[str, object]:
    folder = None if args.multi_user else folder_paths.get_public_user_directory(ONLY_USER)
    if folder is None:
        return {}
    try:
        found = json.loads(Path(folder, "comfy.settings.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
