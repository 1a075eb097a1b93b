"""A student's file with its sentence inside: all else byte by byte as it was, and a refusal for every misfit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from talkstream import cli
from talkstream.model_loaders.audio_part import open_audio
from talkstream.model_loaders.build import open_student
from talkstream.model_loaders.conditioning_file import write_conditioning
from talkstream.model_loaders.doctor import examine
from talkstream.model_loaders.safetensors_file import copy_with_tensor
from talkstream.model_loaders.sentence import SENTENCE
from talkstream.tests import fakes

SIZES = {"dim": 128, "ffn_dim": 64, "layers": 6, "text_dim": 32, "audio_in": 4 * 14 * 16}
WORDS = "a person is talking"


@pytest.fixture
def files(tmp_path):
    """A student without a sentence, and an encoded text."""
    fakes.write_tiny_audiopack(tmp_path / "student.safetensors", **SIZES)
    write_text(tmp_path, torch.randn(1, 5, 32, dtype=torch.bfloat16))
    return tmp_path


def write_text(folder, *rows: torch.Tensor) -> None:
    write_conditioning(folder / "text.safetensors", [[row, {}] for row in rows], text=WORDS)


def join(folder, *, student: str | Path = "student.safetensors", out: str = "whole.safetensors") -> int:
    given = ["--student", str(folder / student), "--conditioning", str(folder / "text.safetensors")]
    return cli.main(["sentence", *given, "--out", str(folder / out)])


def test_the_copy_is_the_same_student_with_its_sentence(files):
    assert join(files) == 0
    before, after = (
        open_student(files / f"{name}.safetensors", choice="livetalk") for name in ("student", "whole")
    )
    rows = load_file(str(files / "text.safetensors"))["0.rows"]
    assert before.sentence() is None
    assert torch.equal(after.sentence(), rows)
    assert after.sentence().dtype == torch.bfloat16
    stored = load_file(str(files / "whole.safetensors"))
    assert torch.equal(stored.pop(SENTENCE), rows)
    assert (
        stored.keys()
        == before.tensors.keys()
        == after.tensors.keys()
        == after.wan_tensors().keys() | (after.audio_tensors().keys())
    )
    weights = load_file(str(files / "student.safetensors"))
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    assert (after.config, after.profile) == (before.config, before.profile)
    assert f'brings its sentence (5 rows): "{WORDS}"' in after.describe()
    assert torch.equal(open_audio(files / "whole.safetensors", after.config).sentence(), rows)
    assert open_audio(files / "student.safetensors", after.config).sentence() is None


def test_the_doctor_asks_for_no_text_encoder(files):
    assert join(files) == 0
    needs = [line for line in examine(files / "student.safetensors").splitlines() if "umt5" in line]
    told = examine(files / "whole.safetensors")
    assert len(needs) == 1
    assert needs[0] not in told
    assert "verdict: a whole student, streams" in told
    assert WORDS in told


def test_a_long_sentence_stays_in_one_line(files):
    write_conditioning(files / "text.safetensors", [[torch.zeros(1, 5, 32), {}]], text="a\nlong one, " * 40)
    assert join(files) == 0
    told = open_student(files / "whole.safetensors", choice="livetalk").describe().splitlines()
    assert len(told) == 2
    assert told[0].endswith(' ..."')


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([torch.zeros(1, 5, 16)], "rows 16 wide, the student reads 32"),
        ([torch.zeros(2, 5, 32)], "several texts"),
        ([torch.zeros(1, 5, 32), torch.zeros(1, 5, 32)], "several texts"),
    ],
)
def test_other_texts_are_refused(files, capsys, rows, words):
    write_text(files, *rows)
    assert join(files) == 1
    assert words in capsys.readouterr().err
    assert not (files / "whole.safetensors").exists()


def test_other_students_are_refused(files, capsys):
    assert join(files) == 0
    assert join(files, student="whole.safetensors", out="twice.safetensors") == 1
    assert "brings a sentence already" in capsys.readouterr().err
    assert join(files) == 1
    assert "whole.safetensors" in capsys.readouterr().err
    torch.save(load_file(str(files / "student.safetensors")), files / "student.pth")
    assert join(files, student="student.pth", out="other.safetensors") == 1
    assert "a single .safetensors file only" in capsys.readouterr().err
    assert join(files, student=cli.MINI, out="other.safetensors") == 1
    assert "talkstream_mini reads no text" in capsys.readouterr().err
    assert not (files / "other.safetensors").exists()


def test_a_sentence_that_does_not_fit_stops_the_load(files):
    tensors = load_file(str(files / "student.safetensors"))
    for shape in ((1, 5, 16), (5, 32), (2, 5, 32)):
        save_file({**tensors, SENTENCE: torch.zeros(shape)}, str(files / "odd.safetensors"))
        with pytest.raises(ValueError, match=r"expected \[1, rows, 32\]"):
            open_student(files / "odd.safetensors")
        assert "expected [1, rows, 32]" in examine(files / "odd.safetensors")


def test_a_copy_that_fails_leaves_nothing(files, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        copy_with_tensor(
            files / "student.safetensors",
            files / "out.safetensors",
            name="more",
            tensor=torch.zeros(1),
            metadata={},
        )
    assert not (files / "out.safetensors").exists()
