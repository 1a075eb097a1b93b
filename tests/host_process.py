"""ComfyUI imported into this process, for tests and benchmarks that need no server."""

from __future__ import annotations

import sys
from pathlib import Path


def import_host(comfyui: Path, base: Path, *, cpu: bool) -> None:
    """Make the host's modules importable, with its folders in an empty folder of their own.

    comfyui: its checkout. cpu: compute there; else on the GPU, where models then stay as with ``--highvram``. Where the
    host was imported before, it stays as it is.
    """
    if str(comfyui) not in sys.path:
        sys.path.insert(0, str(comfyui))
    import comfy.options  # noqa: F401  (keeps the host from parsing this process's arguments)
    from comfy.cli_args import args

    if args.base_directory is None:
        args.cpu, args.highvram = cpu, not cpu
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (base / name).mkdir()
        args.base_directory = str(base)
    import comfy.sd  # noqa: F401  (several host modules expect it to be the first import)
