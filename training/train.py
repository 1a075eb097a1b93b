"""Run a recipe: python -m talkstream.training.train recipes/codec.yaml

On several GPUs: accelerate launch -m talkstream.training.train recipes/codec.yaml
Every stage resumes from its last checkpoint; a stage whose budget is spent is passed over.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from .config import Recipe, load_recipe
from .parallel import is_main, join, leave, main_first, wait_for_all
from .rehearsal import rehearse
from .shapes import SHAPES
from .stages import build_stage, dubbed_folder, export_results
from .trainer import train
from .world.dataset import generate, generate_dubbed

RECIPES = Path(__file__).parent / "recipes"


def run(
    recipe: Recipe, *, device: torch.device, budget_scale: float = 1.0, sharded: bool = False
) -> dict[str, float]:
    """Draw the data, run every stage, export; returns the last stage's held-out numbers."""
    with main_first():
        _draw_data(recipe)
    numbers: dict[str, float] = {}
    stage = None
    for index, part in enumerate(recipe.stages):
        stage = build_stage(recipe, index, device=device, sharded=sharded)
        budget = (part.gpu if device.type == "cuda" else part.cpu).scaled(budget_scale)
        numbers = train(stage, budget, recipe.folder / part.folder)
    export_results(recipe, stage)
    wait_for_all()
    return numbers


def _draw_data(recipe: Recipe) -> None:
    """The clips of a recipe, where they are not there yet."""
    generate(recipe.data_folder, recipe.data)
    generate(recipe.held_out_folder, recipe.held_out)
    if recipe.lip_sync:
        for folder in (recipe.data_folder, recipe.held_out_folder):
            generate_dubbed(dubbed_folder(folder), folder)


def find_recipe(given: Path) -> Path:
    """The path itself, or the file of that name among the recipes that ship."""
    shipped = RECIPES / given.name
    if given.exists() or not shipped.exists():
        return given
    return shipped


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train by a recipe; started again, it resumes.")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--device", help="cpu or cuda; a GPU where there is one")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 leaves torch's choice")
    parser.add_argument("--budget-scale", type=float, default=1.0, help="multiplies every budget")
    parser.add_argument(
        "--shard", action="store_true", help="split networks over the processes (fully_shard)"
    )
    parser.add_argument("--shape", choices=SHAPES, help="rehearse two steps at a released student's size")
    parser.add_argument(
        "--meta", action="store_true", help="rehearse without data, where the size is too large"
    )
    given = parser.parse_args()
    if given.meta and not given.shape:
        parser.error("--meta rehearses another size; say which with --shape")
    device = join(given.device)
    logging.basicConfig(
        level=logging.INFO if is_main() else logging.WARNING, format="%(asctime)s %(message)s"
    )
    if given.threads:
        torch.set_num_threads(given.threads)
    try:
        recipe = load_recipe(find_recipe(given.recipe))
        if given.shape:
            where = torch.device("meta") if given.meta else device
            rehearse(recipe, SHAPES[given.shape], device=where, sharded=given.shard)
        else:
            run(recipe, device=device, budget_scale=given.budget_scale, sharded=given.shard)
    finally:
        leave()


if __name__ == "__main__":
    main()
