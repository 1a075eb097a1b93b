"""The ablation table: each row's settings, its text from given numbers, and a run from recipe to page."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import yaml

from talkstream.benchmarks import ablation, held_out
from talkstream.benchmarks.ablation_page import BOUNDS, COLUMNS, Score, report, table_of, verdicts
from talkstream.benchmarks.ablation_rows import ROWS, changed_recipe, rows_of
from talkstream.benchmarks.records import read_records
from talkstream.tests.benchmarks.tiny_models import (
    SIDE,
    SMALL,
    encoded_bank,
    noise_clips,
    untrained_judges,
    write_clips,
    write_codec,
    write_stage,
    write_syncnet,
)
from talkstream.training import sampling, stages
from talkstream.training.config import load_recipe
from talkstream.training.data import save_bank
from talkstream.training.metrics import write_rows
from talkstream.training.world.dataset import DatasetSize

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning", "ignore:The given NumPy array")

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
BY_NAME = {row.name: row for row in ROWS}


@pytest.fixture(scope="module")
def recipes():
    names = {"echo": "distil_echo", "lip": "distil_lip"}
    return {group: load_recipe(RECIPES / f"{name}.yaml") for group, name in names.items()}


def _changes(recipes, name: str, seed: int = 7) -> dict[str, object]:
    """What a row changes in its group's recipe: settings of the stage, and fields of the recipe."""
    row = BY_NAME[name]
    base = recipes[row.group]
    made = changed_recipe(base, row, seed=seed)
    before, after = (asdict(r.stages[-1].settings) for r in (base, made))
    found = {key: value for key, value in after.items() if value != before[key]}
    fields = ("start", "teacher", "history", "sink", "form", "codec")
    return found | {f: getattr(made, f) for f in fields if getattr(made, f) != getattr(base, f)}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("full", {}),
        ("original_dmd", {"guidance_rule": "constant"}),
        ("causal", {"history": (12,)}),
        ("bidirectional", {"history": (0,)}),
        ("no_sink", {"sink": 0}),
        ("all_latents", {"tail_latents": 12}),
        ("plain_decoder", {}),
        ("lip_full", {}),
        ("no_window", {"guidance_rule": "constant", "audio_guidance": 4.5}),
        ("no_reward", {"reward": "none"}),
    ],
)
def test_a_row_changes_one_thing_and_the_seed(recipes, name, changes):
    assert _changes(recipes, name) == {**changes, "seed": 7}


def test_a_row_without_causal_initialisation_starts_at_the_teacher(recipes):
    assert _changes(recipes, "no_init") == {"start": recipes["echo"].teacher, "seed": 7}


def test_rows_train_in_folders_of_their_own_and_one_shows_the_full_student(recipes):
    folders = {}
    for row in ROWS:
        made = changed_recipe(recipes[row.group], row, seed=1)
        assert len(made.stages) == 1
        folders.setdefault((row.group, made.stages[0].folder), []).append(row.name)
    assert [names for names in folders.values() if len(names) > 1] == [["full", "plain_decoder"]]


def test_a_row_that_changes_nothing_is_refused(recipes):
    part = recipes["lip"].stages[-1]
    same = replace(recipes["lip"], stages=(replace(part, settings=replace(part.settings, reward="none")),))
    with pytest.raises(ValueError, match="no_reward sets .* which the recipe has already"):
        changed_recipe(same, BY_NAME["no_reward"], seed=0)


def test_rows_come_in_order_with_what_they_are_compared_with():
    assert [row.name for row in rows_of(["no_reward", "no_sink"])] == [
        "full", "no_sink", "lip_full", "no_reward",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"rows are \['sink'\]; expected some of full, "):
        rows_of(["sink"])


def test_what_parts_are_said_to_buy_is_measured():
    assert {name for row in ROWS for name in row.buys} <= {column.name for column in COLUMNS}


def _scores(row: str, identity: list[float]) -> list[Score]:
    return [
        Score(row, seed, stretch, None, 0.9 + 0.01 * seed, 0.95, value, 0.02, 0.01)
        for seed, value in enumerate(identity)
        for stretch in ("first", "last")
    ]


def test_the_page_says_what_helps_and_what_does_not():
    scores = _scores("full", [0.020, 0.021, 0.022]) + _scores("no_sink", [0.040, 0.041, 0.042])
    lines = table_of(scores, "echo", "last").splitlines()
    assert lines[2].startswith("| full |  | 0.910 ± 0.010 | 0.95 ± 0.00 | 0.0210 ± 0.0010 | 0.020 ± 0.000 |")
    assert lines[3].startswith("| without reference sink |  | 0.910 ± 0.010 |") and len(lines) == 4
    said = verdicts(scores, BY_NAME["no_sink"], "last")
    assert "helps: identity: distance*" in said and "does not help here: true mouth r, " in said
    page = report(scores, command="command", clips=8, about="5 of 20 s")
    assert "## EchoTorrent's form" in page and "## Lip Forcing's form" not in page


def test_one_seed_claims_nothing():
    scores = _scores("full", [0.02]) + _scores("no_sink", [0.04])
    assert "helps" not in verdicts(scores, BY_NAME["no_sink"], "first")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command on tiny networks, encoded noise and one row, with an initialisation of its own."""
    monkeypatch.setattr(stages, "NETWORK", SMALL)
    monkeypatch.setattr(sampling, "NETWORK", SMALL)
    monkeypatch.setattr(ablation, "held_out_clips", noise_clips)
    monkeypatch.setattr(held_out, "make_judges", untrained_judges)
    codec = write_codec(tmp_path / "codec.safetensors")
    for name in ("train", "held_out"):
        save_bank(tmp_path / "shared" / f"{name}_latents.npz", encoded_bank())
    sizes = {}
    for name, clips in (("data", 2), ("held_out", 2)):
        size = DatasetSize(clips=clips, frames=57, side=SIDE, held_out=name == "held_out")
        sizes[name] = asdict(size) | {"domains": list(size.domains)}
        write_clips(tmp_path / name, size)
    budget = {"cpu": {"seconds": 9.0}, "gpu": {"steps": 9}}
    shared = {
        "folder": str(tmp_path / "shared"), "form": "mini_echo", "codec": str(codec), "data": sizes["data"],
        "data_folder": str(tmp_path / "data"), "held_out": sizes["held_out"],
        "held_out_folder": str(tmp_path / "held_out"), "start": str(write_stage(tmp_path / "start")),
        "syncnet": str(write_syncnet(tmp_path / "syncnet")),
    }  # fmt: skip
    distil = {
        "batch": 1,
        "window": 4,
        "rollout": "long_tail",
        "horizon": 12,
        "long_after": 4,
        "guidance_rule": "acc",
    }
    ode = {"batch": 1, "pairs": 1, "held_out_pairs": 1, "sampling": {"steps": 12}}
    recipes = {
        "echo": [{"stage": "distil", "settings": distil, **budget}],
        "init": [
            {"stage": "finetune", "settings": {"batch": 1}, **budget},
            {"stage": "ode", "settings": ode, **budget},
        ],
        "refiner": [{"stage": "refiner", "settings": {"rollout_chunks": 2}, **budget}],
    }  # fmt: skip
    for name, parts in recipes.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**shared, "stages": parts}), encoding="utf-8")
    budgets = {"seconds": 0.001, "init-seconds": 0.001, "refiner-seconds": 0.001}
    sizes = {"per-domain": 1, "stream-frames": 29, "stretch-frames": 13}
    paths = {f"{name}-recipe": tmp_path / f"{name}.yaml" for name in recipes}
    paths |= {"runs": tmp_path / "runs", "out": tmp_path / "out"}
    given = {"device": "cpu", **budgets, **sizes, **paths}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def test_rows_are_trained_judged_and_kept(command, tmp_path, monkeypatch):
    """Full bidirectional, the plain decoder and what they are compared with: one student of its own initialisation, one
    that two decoders show; then a second call finds everything there.
    """
    given = [*command, "--rows", "bidirectional", "plain_decoder", "--seeds", "3"]
    ablation.main(given)
    scores = read_records(tmp_path / "out" / "ablation.csv", Score)
    names = ("drawn", "codec", "full", "bidirectional", "plain_decoder")
    assert [(s.row, s.seed, s.stretch) for s in scores] == [
        (name, 0 if name in BOUNDS else 3, stretch) for name in names for stretch in ("first", "last")
    ]  # fmt: skip
    sharpness = {s.row: s.sharpness for s in scores if s.stretch == "last"}
    assert sharpness["drawn"] == 1 and sharpness["full"] != sharpness["plain_decoder"]
    runs = tmp_path / "runs"
    files = sorted(runs.glob("students/*.safetensors"))
    assert [file.name for file in files] == ["bidirectional_3.safetensors", "full_3.safetensors"]
    for file, history in zip(files, ((0,), (12, 0)), strict=True):
        assert sampling.load_mini(file, runs / "codec.safetensors").profile.history == history
    assert (runs / "init_0" / "ode" / "finished").exists()
    assert [path.parent.name for path in runs.glob("echo/*/training.pt")] == ["full_3"]
    page = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8")
    assert (
        "| full bidirectional |" in page
        and "| (codec alone) |" in page
        and (tmp_path / "out" / "ablation.png").exists()
    )
    monkeypatch.setattr(ablation, "run", None)
    ablation.main(given)
    assert read_records(tmp_path / "out" / "ablation.csv", Score) == scores


def test_what_must_be_trained_before_is_named_and_nothing_is_begun(tmp_path, monkeypatch):
    """An initialisation of a row's own starts at the teacher; the other form's start is not asked for."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        ablation.main(["--rows", "causal"])
    told = str(error.value)
    for folder, recipe in (
        ("v1_causal_echo/ode", "causal_init_echo"), ("v1_sft/sft_12", "sft"), ("v1_experts/rare", "experts"),
        ("v1_teacher/teacher", "teacher"), ("syncnet/syncnet", "syncnet"),
    ):  # fmt: skip
        assert f"runs/{folder} holds no trained stage: run recipes/{recipe}.yaml first" in told
    assert "v1_causal/ode" not in told and list(tmp_path.iterdir()) == []


def test_a_student_that_no_update_reached_is_refused(recipes, tmp_path):
    recipe, row = replace(recipes["lip"], folder=tmp_path), BY_NAME["lip_full"]
    table, file = tmp_path / recipe.stages[-1].folder / "metrics.csv", tmp_path / "student.safetensors"
    table.parent.mkdir()
    warmup = recipe.stages[-1].settings.critic_warmup
    for steps in (warmup, warmup + 1):
        write_rows(table, [{"step": 3, "train/fake": 0.5}, {"step": steps, "held-out/rollout_mse": 0.5}])
        file.touch()
        if steps > warmup:
            ablation.require_learning(row, recipe, file)
            assert file.exists()
        else:
            told = f"lip_full came to {warmup} steps, and its student learns from step {warmup + 1} on"
            with pytest.raises(ValueError, match=told):
                ablation.require_learning(row, recipe, file)
            assert not file.exists()


def test_a_stretch_lies_in_the_stream(command):
    with pytest.raises(ValueError, match="--stretch-frames is 30 of a stream of 29"):
        ablation.main([*command, "--stretch-frames", "30"])
    with pytest.raises(ValueError, match="1 more than a multiple of 4"):
        ablation.main([*command, "--stream-frames", "500"])


def test_the_refiner_works_on_the_clips_and_the_form_of_its_rows(recipes):
    refiner, echo = load_recipe(RECIPES / "ablation_refiner.yaml"), recipes["echo"]
    for name in ("form", "data", "data_folder", "held_out", "held_out_folder", "codec", "versions"):
        assert getattr(refiner, name) == getattr(echo, name)
    assert refiner.syncnet == recipes["lip"].syncnet
