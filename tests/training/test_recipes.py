"""Every recipe parses; wrong entries are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from talkstream.model_loaders.build import open_student
from talkstream.training.config import STAGES, load_recipe, parse
from talkstream.training.finetune import FinetuneSettings
from talkstream.training.mini import mini_profile
from talkstream.training.mini_lipsync import lipsync_profile
from talkstream.training.teacher_sampling import TeacherSampling
from talkstream.training.train import find_recipe

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "training" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_recipe_parses(path):
    recipe = load_recipe(path)
    assert recipe.held_out.held_out and not recipe.data.held_out
    assert recipe.data.side == recipe.held_out.side == mini_profile().width
    assert recipe.lip_sync == ("lipsync" in path.stem)
    for part in recipe.stages:
        assert isinstance(part.settings, STAGES[part.stage])
        assert part.cpu.seconds > 0 and part.gpu.steps > 0


def _recipes(*names):
    return (load_recipe(RECIPES / f"{name}.yaml") for name in names)


def test_recipes_build_on_each_other():
    teacher, sft, experts, causal, echo = _recipes(
        "teacher", "sft", "experts", "causal_init", "causal_init_echo"
    )
    assert sft.start == causal.start == teacher.folder / "teacher"
    assert experts.start == sft.folder / "sft"
    assert [part.settings.window for part in sft.stages] == [9, 12]
    assert [part.settings.domain for part in experts.stages] == ["singing", "profile", "rare"]
    assert [part.stage for part in causal.stages] == ["finetune", "ode"]
    assert causal.stages[1].settings.sampling == TeacherSampling(steps=48, audio_guidance=4.5)
    assert (echo.stages, echo.start, echo.form) == (causal.stages, causal.start, "mini_echo")
    distil, distil_lip, distil_echo, lipsync, refiner, sync = _recipes(
        "distil", "distil_lip", "distil_echo", "lipsync", "refiner", "syncnet"
    )
    assert (distil.start, distil.teacher) == (causal.folder / "finetune", sft.folder / "sft")
    assert (distil_lip.start, distil_lip.teacher) == (causal.folder / "ode", sft.folder / "sft")
    assert (distil_echo.start, distil_echo.teacher) == (echo.folder / "ode", sft.folder / "sft_12")
    assert (
        distil_lip.experts
        == distil_echo.experts
        == {p.folder: experts.folder / p.folder for p in experts.stages}
    )
    assert lipsync.start == causal.folder / "finetune" and "profile" not in lipsync.data.domains
    assert refiner.start == distil.folder / distil.stages[-1].folder
    assert distil_lip.syncnet == refiner.syncnet == sync.folder / sync.stages[0].folder
    everyone = (teacher, sft, experts, causal, echo, distil, distil_lip, distil_echo, refiner)
    assert len({(r.data_folder, r.data) for r in everyone}) == 1


def test_what_ships_comes_from_the_recipes():
    codec, distil, lipsync = _recipes("codec", "distil", "lipsync")
    assert codec.start is None and [part.folder for part in codec.stages] == ["codec", "decoder", "fine"]
    assert all(part.settings.decoder_only for part in codec.stages[1:])
    assert {load_recipe(path).codec for path in RECIPES.glob("*.yaml")} == {codec.export_codec, None}
    assert {codec.export_codec, distil.export_student, lipsync.export_student} == {
        path.relative_to(ROOT) for path in (ROOT / "assets").rglob("*.safetensors")
    }
    for recipe, profile in ((distil, mini_profile()), (lipsync, lipsync_profile())):
        shipped = open_student(ROOT / recipe.export_student).profile
        assert replace(shipped, source=profile.source) == profile


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("versions:", "verions:", "unknown keys \\[.verions.\\]"),
        ("batch: 8", "batsch: 8", "unknown keys \\['batsch'\\]"),
        ("batch: 8", "batch: many", "batch is 'many'; expected int"),
        ("stage: finetune", "stage: finetun", "expected one of codec"),
        ("motion: spoken", "motion: wild", "expected one of"),
        ("cpu: {seconds: 2400}", "cpu: {seconds: 2400, steps: 5}", "exactly one"),
        (
            "  - stage: finetune",
            "  - {stage: ode, cpu: {steps: 1}, gpu: {steps: 1}}\n  - stage: finetune",
            "share",
        ),
    ],
)
def test_wrong_entries_are_named(tmp_path, old, new, message):
    text = (RECIPES / "causal_init.yaml").read_text()
    assert old in text
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_recipe(path)


def test_numbers_are_converted_and_missing_keys_named():
    assert parse(FinetuneSettings, {"shift": 3}, "here").shift == 3.0
    with pytest.raises(ValueError, match="lacks"):
        parse(type(load_recipe(RECIPES / "codec.yaml").data), {"clips": 3}, "here")


def test_shipped_recipes_are_found_by_name():
    assert find_recipe(Path("recipes/codec.yaml")) == RECIPES / "codec.yaml"
