"""Tables of experiments: rows come back as they were, and folders keep different experiments apart."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from talkstream.benchmarks.records import (
    claim_folder,
    command_of,
    markdown_table,
    read_records,
    write_records,
)


@dataclass(frozen=True)
class _Row:
    name: str
    step: int
    level: float
    score: float | None


def test_rows_come_back_with_their_types(tmp_path):
    rows = [_Row("a, b", 3, 0.1, None), _Row("c", -1, 1 / 3, 2.0)]
    path = tmp_path / "deep" / "rows.csv"
    assert read_records(path, _Row) == []
    write_records(path, _Row, rows)
    assert read_records(path, _Row) == rows
    assert [p.name for p in path.parent.iterdir()] == ["rows.csv"]


def test_a_file_of_other_columns_is_refused(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("name,step\na,1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"columns \['name', 'step'\]; expected .*move it away"):
        read_records(path, _Row)


def test_a_folder_holds_one_experiment(tmp_path):
    about = {"teacher": tmp_path / "sft", "scale": 4.5}
    claim_folder(tmp_path, about)
    claim_folder(tmp_path, about)
    with pytest.raises(ValueError, match=r"scale was 4.5, now 2.0\); name another folder"):
        claim_folder(tmp_path, {**about, "scale": 2.0})


def test_a_table_is_markdown():
    assert markdown_table(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_a_page_names_its_command(monkeypatch):
    assert command_of("x", ["--out", "a b"]) == "python -m talkstream.benchmarks.x --out 'a b'"
    monkeypatch.setattr("sys.argv", ["x.py", "--seed", "3"])
    assert command_of("x", None) == "python -m talkstream.benchmarks.x --seed 3"
