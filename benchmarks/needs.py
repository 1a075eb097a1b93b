"""Whether the trainings that a command builds on are there: said before it begins, with the recipes that make them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..training.config import Recipe, load_recipe
from ..training.train import RECIPES


def stages_of(recipe: Recipe) -> list[Path]:
    """Folders of the finished stages that a recipe of networks begins with and is judged by."""
    named = [recipe.start, recipe.teacher, *recipe.experts.values(), recipe.syncnet]
    return [folder for folder in named if folder is not None]


def require_stages(folders: Iterable[Path]) -> None:
    """Raises FileNotFoundError where a folder holds no trained stage, for all of them at once."""
    missing = [
        folder
        for folder in dict.fromkeys(folders)
        if not (folder.is_file() or (folder / "training.pt").is_file())
    ]
    if missing:
        told = "; ".join(f"{folder} holds no trained stage: {_who_trains(folder)}" for folder in missing)
        raise FileNotFoundError(f"{told}. Or name other folders, in a recipe or on the command line")


def _who_trains(folder: Path) -> str:
    """The shipped recipe that leaves a folder of this name; the folder that it lies in may be another."""
    for path in sorted(RECIPES.glob("*.yaml")):
        recipe = load_recipe(path)
        if any((recipe.folder / part.folder).parts[-2:] == folder.parts[-2:] for part in recipe.stages):
            return f"run recipes/{path.name} first"
    return "no recipe that ships leaves it"
