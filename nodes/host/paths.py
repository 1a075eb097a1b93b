"""Folders: models, shipped assets, and the files that runs write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy.cli_args import args

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MINI_STUDENT = "talkstream_mini.safetensors"
MODEL_FOLDERS = ("diffusion_models", "vae")


@dataclass(frozen=True)
class OutputFile:
    """A file in ComfyUI's output folder: its path, and the two parts by which the front end asks for it."""

    path: Path
    subfolder: str

    def beside(self, path: Path) -> OutputFile:
        """Another file in the same folder."""
        return OutputFile(path, self.subfolder)


def register_model_folders() -> None:
    """Adds the pack's own weights to the folders that core's loaders list. Safe to call twice."""
    for name in MODEL_FOLDERS:
        folder_paths.add_model_folder_path(name, str(ASSETS / name))


def student_names() -> list[str]:
    """Files in models/diffusion_models, the shipped Mini first."""
    names = folder_paths.get_filename_list("diffusion_models")
    return sorted(names, key=lambda name: (name != MINI_STUDENT, name))


def student_path(name: str) -> Path:
    """Full path of a file from student_names()."""
    return Path(folder_paths.get_full_path_or_raise("diffusion_models", name))


def vae_names() -> list[str]:
    """Files in models/vae."""
    return folder_paths.get_filename_list("vae")


def vae_path(name: str) -> Path:
    """Full path of a file from vae_names()."""
    return Path(folder_paths.get_full_path_or_raise("vae", name))


def asset_names(folder: str, suffix: str) -> list[str]:
    """Names without suffix of the shipped files in one asset folder, sorted."""
    return sorted(path.stem for path in (ASSETS / folder).glob(f"*{suffix}"))


def asset_path(folder: str, name: str, suffix: str) -> Path:
    """Path of a shipped file; raises ValueError for any name that is not listed."""
    names = asset_names(folder, suffix)
    if name not in names:
        raise ValueError(f"got example {name!r}, expected one of {names}")
    return ASSETS / folder / f"{name}{suffix}"


def reserve_output(prefix: str, *, width: int, height: int, suffix: str = ".mp4") -> OutputFile:
    """Picks the next free numbered file under ComfyUI's output folder and creates it empty.

    prefix: as in core's save nodes, with %date% parts and sub-folders. Raises ValueError when the folder
    lies outside the output folder or cannot be written.
    """
    root = folder_paths.get_output_directory()
    wanted = Path(root, prefix).parent
    if not folder_paths.is_within_directory(root, str(wanted)):
        raise ValueError(
            f"got filename_prefix {prefix!r}, expected a place inside {root}; remove '..' or the drive"
        )
    try:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, root, width, height)
        path = Path(folder, f"{name}_{counter:05}_{suffix}")
        path.touch()
    except OSError as error:
        raise ValueError(
            f"cannot write to {wanted} ({error.strerror}); make it a folder that can be written, or change "
            "filename_prefix"
        ) from error
    return OutputFile(path, subfolder)


def metadata_allowed() -> bool:
    """Whether the user lets files carry the workflow that made them."""
    return not args.disable_metadata
