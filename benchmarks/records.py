"""Rows of an experiment in a CSV file: one frozen dataclass a row, kept from run to run."""

from __future__ import annotations

import csv
import json
import shlex
import sys
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

Record = TypeVar("Record")


def write_records(path: Path, kind: type[Record], records: Iterable[Record]) -> None:
    """Replace a file in one move, so that a run that is killed leaves no half of it; a None becomes an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(record) for record in records)
    unfinished.replace(path)


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """What write_records wrote; nothing where there is no file. Fields are str, int or float, some of them or None.

    Raises ValueError where the file has other columns.
    """
    if not path.exists():
        return []
    hints = typing.get_type_hints(kind)
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if list(reader.fieldnames or ()) != list(hints):
            raise ValueError(
                f"{path} has the columns {reader.fieldnames}; expected {list(hints)}: move it away, so that it is made "
                "anew"
            )
        return [kind(**{name: _value(hints[name], cell) for name, cell in row.items()}) for row in reader]


def _value(kind: Any, cell: str) -> Any:  # noqa: ANN401
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if not cell and type(None) in options:
        return None
    return options[0](cell)


def claim_folder(folder: Path, about: Mapping[str, Any]) -> None:
    """Say in a folder what its numbers are of, so that rows of different experiments never meet in one table.

    Raises ValueError where the folder holds another experiment's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "experiment.json"
    text = json.dumps(dict(about), indent=1, default=str)
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
    other = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if other:
        told = "; ".join(f"{name} was {before.get(name)!r}, now {now.get(name)!r}" for name in other)
        raise ValueError(f"{folder} holds an experiment with other settings ({told}); name another folder")


def command_of(name: str, arguments: Sequence[str] | None) -> str:
    """The command that a page is of, from a main's arguments; None are the process's own."""
    given = sys.argv[1:] if arguments is None else arguments
    return shlex.join(["python", "-m", f"talkstream.benchmarks.{name}", *given])


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table, the first row its head."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
