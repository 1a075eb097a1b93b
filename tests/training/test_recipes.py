"""Every recipe parses; wrong entries are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from talkstream.training.config import STAGES, load_recipe, parse
from talkstream.training.finetune import FinetuneSettings
from talkstream.training.teacher_sampling import TeacherSampling
from talkstream.training.train import find_recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda p: p.stem)
def test_recipe_parses(path):
    recipe = load_recipe(path)
    assert recipe.held_out.held_out and not recipe.data.held_out
    assert recipe.data.side == recipe.held_out.side == (128 if recipe.data.world else 96)
    assert recipe.lip_sync == ("lipsync" in path.stem)
    for part in recipe.stages:
        assert isinstance(part.settings, STAGES[part.stage])
        assert part.cpu.seconds > 0 and part.gpu.steps > 0


def test_recipes_build_on_each_other():
    codec, student, distil, lipsync = (
        load_recipe(RECIPES / f"mini_{name}.yaml") for name in ("codec", "student", "distil", "lipsync")
    )
    assert student.codec == distil.codec == lipsync.codec == codec.folder
    assert distil.start == lipsync.start == student.folder / "finetune"
    assert distil.data == student.data
    names = ("teacher", "sft", "experts", "causal_init", "causal_init_echo")
    teacher, sft, experts, causal, echo = (load_recipe(RECIPES / f"{name}.yaml") for name in names)
    codec = load_recipe(RECIPES / "v1_codec.yaml")
    assert teacher.codec == codec.export_codec and codec.start == Path(
        "assets/vae/talkstream_mini_vae.safetensors"
    )
    assert sft.start == causal.start == teacher.folder / "teacher"
    assert experts.start == sft.folder / "sft"
    assert [part.settings.window for part in sft.stages] == [9, 12]
    assert [part.settings.domain for part in experts.stages] == ["singing", "profile", "rare"]
    assert [part.stage for part in causal.stages] == ["finetune", "ode"]
    assert causal.stages[1].settings.sampling == TeacherSampling(steps=48, audio_guidance=4.5)
    assert (echo.stages, echo.start, echo.form) == (causal.stages, causal.start, "mini_echo")
    papers, papers_echo = (load_recipe(RECIPES / f"{name}.yaml") for name in ("distil", "distil_echo"))
    assert (papers.start, papers.teacher) == (causal.folder / "ode", sft.folder / "sft")
    assert (papers_echo.start, papers_echo.teacher) == (echo.folder / "ode", sft.folder / "sft_12")
    assert (
        papers.experts == papers_echo.experts == {p.folder: experts.folder / p.folder for p in experts.stages}
    )
    assert papers.syncnet == load_recipe(RECIPES / "syncnet.yaml").folder / "syncnet"
    everyone = (teacher, sft, experts, causal, echo, papers, papers_echo)
    assert len({(r.data_folder, r.data, r.codec) for r in everyone}) == 1


def test_the_refiner_builds_on_the_distilled_student_and_the_sync_teacher():
    codec, distil = (load_recipe(RECIPES / f"mini_{name}.yaml") for name in ("codec", "distil"))
    refiner, sync = load_recipe(RECIPES / "mini_refiner.yaml"), load_recipe(RECIPES / "syncnet.yaml")
    assert refiner.codec == codec.folder and refiner.start == distil.folder / distil.stages[0].folder
    assert refiner.syncnet == sync.folder / sync.stages[0].folder
    assert (refiner.data, refiner.data_folder) == (distil.data, distil.data_folder)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("versions:", "verions:", "unknown keys \\[.verions.\\]"),
        ("batch: 8", "batsch: 8", "unknown keys \\['batsch'\\]"),
        ("batch: 8", "batch: many", "batch is 'many'; expected int"),
        ("stage: finetune", "stage: finetun", "expected one of codec"),
        ("motion: spoken", "motion: wild", "expected one of"),
        ("cpu: {seconds: 1200}", "cpu: {seconds: 1200, steps: 5}", "exactly one"),
        (
            "  - stage: finetune",
            "  - {stage: speech, cpu: {steps: 1}, gpu: {steps: 1}}\n  - stage: finetune",
            "share",
        ),
    ],
)
def test_wrong_entries_are_named(tmp_path, old, new, message):
    text = (RECIPES / "mini_student.yaml").read_text()
    assert old in text
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_recipe(path)


def test_numbers_are_converted_and_missing_keys_named():
    assert parse(FinetuneSettings, {"shift": 3}, "here").shift == 3.0
    with pytest.raises(ValueError, match="lacks"):
        parse(type(load_recipe(RECIPES / "mini_codec.yaml").data), {"clips": 3}, "here")


def test_shipped_recipes_are_found_by_name():
    assert find_recipe(Path("recipes/mini_codec.yaml")) == RECIPES / "mini_codec.yaml"
