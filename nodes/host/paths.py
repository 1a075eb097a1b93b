"""Folders: models, shipped assets, and the files that runs write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy.cli_args import args

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MINI_STUDENT = "talkstream_mini.safetensors"
MODEL_FOLDERS = ("diffusion_models", "vae")
NONE = "none"
"""What a list of files offers besides files."""
EXAMINED_FOLDERS = (
    "diffusion_models",
    "loras",
    "vae",
    "vae_approx",
    "text_encoders",
    "audio_encoders",
    "clip_vision",
    "model_patches",
    "checkpoints",
)


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


def audio_encoder_path(name: object) -> Path | None:
    """Full path of a file in models/audio_encoders; None where the value names none."""
    found = folder_paths.get_full_path("audio_encoders", name) if isinstance(name, str) else None
    return None if found is None else Path(found)


def model_file_names() -> list[str]:
    """Every file in the model folders that a student or its companions could lie in, as folder/name."""
    return [
        f"{folder}/{name}" for folder in EXAMINED_FOLDERS for name in folder_paths.get_filename_list(folder)
    ]


def model_file_path(name: str) -> Path:
    """Full path of a file from model_file_names()."""
    folder, _, rest = name.partition("/")
    if folder not in EXAMINED_FOLDERS:
        raise ValueError(f"got {name!r}, expected folder/name with one of {', '.join(EXAMINED_FOLDERS)}")
    return Path(folder_paths.get_full_path_or_raise(folder, rest))


def conditioning_names() -> list[str]:
    """Safetensors files in ComfyUI's input folder, and in its output folder with the mark [output].

    Those at the top and one folder down: an output folder may hold a hundred thousand files further below.
    """
    folders = {"": folder_paths.get_input_directory(), " [output]": folder_paths.get_output_directory()}
    return [
        f"{path.relative_to(folder).as_posix()}{mark}"
        for mark, folder in folders.items()
        for pattern in ("*.safetensors", "*/*.safetensors")
        for path in sorted(Path(folder).glob(pattern))
    ]


def conditioning_path(name: str) -> Path:
    """Full path of a file from conditioning_names(). Raises ValueError outside the two folders."""
    return Path(folder_paths.get_annotated_filepath(name))


def input_pictures() -> list[str]:
    """PNG files at the top of ComfyUI's input folder."""
    return sorted(path.name for path in Path(folder_paths.get_input_directory()).glob("*.png"))


def input_picture(name: str) -> Path:
    """Full path of a file from input_pictures(). Raises ValueError for any other name."""
    if name not in input_pictures():
        raise ValueError(f"got {name!r}, expected a PNG file in ComfyUI's input folder")
    return Path(folder_paths.get_input_directory(), name)


def file_stamp(name: str) -> str:
    """Text that changes when a file from conditioning_names() does; empty where it is gone."""
    path = conditioning_path(name)
    found = path.stat() if path.is_file() else None
    return "" if found is None else f"{found.st_mtime_ns} {found.st_size}"


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
