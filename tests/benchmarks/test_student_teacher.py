"""Student against teacher on tiny networks: calls are counted, rates follow from them, pages from both."""

from __future__ import annotations

import pytest

from talkstream.benchmarks import held_out, student_teacher
from talkstream.benchmarks.records import read_records
from talkstream.benchmarks.student_teacher import Result, Take
from talkstream.tests.benchmarks.tiny_models import (
    SMALL,
    noise_clips,
    untrained_judges,
    write_codec,
    write_stage,
    write_student,
)
from talkstream.training import sampling

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning", "ignore:The given NumPy array")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """The command on tiny networks and clips of noise."""
    monkeypatch.setattr(student_teacher, "NETWORK", SMALL)
    monkeypatch.setattr(sampling, "NETWORK", SMALL)
    monkeypatch.setattr(student_teacher, "held_out_clips", noise_clips)
    monkeypatch.setattr(held_out, "make_judges", untrained_judges)
    files = {
        "student": write_student(tmp_path / "student.safetensors"),
        "teacher": write_stage(tmp_path / "teacher"),
        "codec": write_codec(tmp_path / "codec.safetensors"),
    }
    given = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    return [*given, "--steps", "4", "--latents", "6", "--per-domain", "1", "--runs", str(tmp_path / "runs"),
            "--out", str(tmp_path / "out")]  # fmt: skip


def test_calls_rates_and_page(command, tmp_path):
    """Two chunks: the student's four steps and clean pass for each, the teacher's four steps of two calls for both."""
    student_teacher.main(command)
    takes = read_records(tmp_path / "runs" / "student_teacher" / "takes.csv", Take)
    assert [(t.who, t.clip, t.chunks, t.frames, t.calls) for t in takes] == [
        ("student", 0, 2, 21, 10), ("teacher", 0, 2, 21, 8), ("student", 1, 2, 21, 10), ("teacher", 1, 2, 21, 8),
    ]  # fmt: skip
    student, teacher = read_records(tmp_path / "out" / "student_teacher.csv", Result)
    assert (student.steps, student.calls_per_chunk, teacher.calls_per_chunk) == (4, 5.0, 4.0)
    own = [t for t in takes if t.who == "student"]
    assert student.latent_fps == pytest.approx(42 / sum(t.latent_seconds for t in own))
    assert student.fps == pytest.approx(42 / sum(t.latent_seconds + t.decode_seconds for t in own))
    page = (tmp_path / "out" / "student_teacher.md").read_text(encoding="utf-8")
    assert "| network calls per chunk | 5.0 | 4.0 | 1.25 |" in page
    student_teacher.main(command)
    assert read_records(tmp_path / "runs" / "student_teacher" / "takes.csv", Take) == takes


def test_a_clip_is_whole_chunks(command):
    with pytest.raises(ValueError, match="--latents is 7; give whole chunks of 3"):
        student_teacher.main([*command, "--latents", "7"])
