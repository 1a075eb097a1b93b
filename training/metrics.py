"""Numbers of a run as one CSV file: a row per report, a column per quantity, new columns whenever one appears."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

Row = Mapping[str, float]


def read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a file, without their empty cells; none where there is no file.

    Raises ValueError where a cell is not a number or a row has more cells than the header.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            _numbers(row, f"{path}, line {line}") for line, row in enumerate(csv.DictReader(file), start=2)
        ]


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replace a file in one move, so that a reader, or a run that is killed, never sees half of it.

    Columns stand in the order in which they first appear; what a row lacks stays empty.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row))
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    unfinished.replace(path)


def add_row(path: Path, row: Row) -> None:
    """Append a report. (A run has hundreds of them: the file is written anew each time.)"""
    write_rows(path, [*read_rows(path), row])


def forget_after(path: Path, step: int) -> None:
    """Drop the rows of later steps: a run that goes on from an older checkpoint reports them again."""
    if path.exists():
        write_rows(path, [row for row in read_rows(path) if row["step"] <= step])


def columns(rows: Iterable[Row]) -> dict[str, list[float]]:
    """Rows -> columns of equal length; nan where a row has no number."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, math.nan) for row in rows] for name in names}


def _cell(value: float) -> float | int:
    """Steps read better as 3 than as 3.0."""
    return int(value) if math.isfinite(value) and value == int(value) else value


def _numbers(row: Mapping[str | None, str | None], where: str) -> dict[str, float]:
    if None in row:
        raise ValueError(f"{where} has more cells than the header names; repair or remove the file")
    try:
        return {name: float(cell) for name, cell in row.items() if cell}
    except ValueError as error:
        raise ValueError(
            f"{where} holds something else than numbers ({error}); repair or remove the file"
        ) from error
