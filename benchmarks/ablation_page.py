"""The page of the ablation: tables by form and stretch, what each part brings, a plot per measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..training.plots import Curve, Plot, draw_sheet
from .ablation_rows import FULL, ROWS, Group, Row
from .mini_run import machine
from .records import markdown_table
from .spread import Goal, difference, spread


@dataclass(frozen=True)
class Score:
    """What one student of one row showed on the first or the last seconds of the held-out streams.

    Measures as in training.measure.Measures, sharpness over that of the drawn clips.
    """

    row: str
    seed: int
    stretch: str
    sync_c: float | None
    r_open: float
    sharpness: float
    identity: float
    mouth_outside: float
    background: float


@dataclass(frozen=True)
class Column:
    """A measure of the table: field of Score, its head, what is good, digits."""

    name: str
    title: str
    goal: Goal
    digits: int


COLUMNS = (
    Column("sync_c", "Sync-C ↑", "high", 2),
    Column("r_open", "true mouth r ↑", "high", 3),
    Column("sharpness", "image: sharpness → 1", "one", 2),
    Column("identity", "identity: distance ↓", "low", 4),
    Column("mouth_outside", "anatomy: impossible mouths ↓", "low", 3),
    Column("background", "background: distance ↓", "low", 4),
)
BOUNDS = {"drawn": "(drawn clips)", "codec": "(codec alone)"}
STRETCHES = {"first": "the first seconds", "last": "the last seconds"}


def _values(scores: Sequence[Score], row: str, stretch: str, column: Column) -> list[float]:
    """One number per seed; none where it was not measured."""
    found = [getattr(s, column.name) for s in scores if (s.row, s.stretch) == (row, stretch)]
    return [value for value in found if value is not None]


def table_of(scores: Sequence[Score], group: Group, stretch: str) -> str:
    """Mean and spread over seeds of a group's rows, then what they can reach at best."""
    body = []
    titles = {row.name: row.title for row in ROWS if row.group == group} | BOUNDS
    for name, title in titles.items():
        columns = [_values(scores, name, stretch, column) for column in COLUMNS]
        if any(columns):
            cells = [spread(v).text(c.digits) if v else "" for v, c in zip(columns, COLUMNS, strict=True)]
            seeds = "" if name in BOUNDS else str(max(len(v) for v in columns))
            body.append([title, *cells, seeds])
    return markdown_table(["row", *(column.title for column in COLUMNS), "seeds"], body)


def verdicts(scores: Sequence[Score], row: Row, stretch: str) -> str:
    """One sentence on what the part that a row leaves out brings, from difference against spread."""
    told: dict[str, list[str]] = {}
    for column in COLUMNS:
        full, without = (_values(scores, name, stretch, column) for name in (FULL[row.group], row.name))
        if full and without:
            mark = "*" if column.name in row.buys else ""
            told.setdefault(difference(full, without, goal=column.goal).verdict, []).append(
                column.title.rstrip(" ↑↓→1") + mark
            )
    parts = [f"{verdict}: {', '.join(names)}" for verdict, names in told.items()]
    return f"- **{row.title}**, {STRETCHES[stretch]}: the part {'; '.join(parts)}."


def report(scores: Sequence[Score], *, command: str, clips: int, about: str) -> str:
    """The page: both groups' tables on both stretches, then what each part brings."""
    lines = [
        "# Ablation", "", f"{machine()}.", "", f"Command: `{command}`.", "",
        f"{clips} held-out clips of all domains, {about}. Mean ± sample deviation over seeds. A part helps or hurts "
        "where its difference is at least two standard errors; with one seed nothing is claimed. A star marks what the "
        "part is said to improve.", "", "![rows](ablation.png)", "",
    ]  # fmt: skip
    for group, title in (("echo", "EchoTorrent's form"), ("lip", "Lip Forcing's form")):
        rows = [row for row in ROWS if row.group == group and any(s.row == row.name for s in scores)]
        if not rows:
            continue
        lines += [f"## {title}", ""]
        for stretch, words in STRETCHES.items():
            lines += [f"On {words} of each stream:", "", table_of(scores, group, stretch)]
        lines += [verdicts(scores, r, s) for r in rows if not r.is_full for s in STRETCHES]
        lines.append("")
    return "\n".join(lines)


def draw(scores: Sequence[Score], path: Path) -> None:
    """A plot per measure: rows along x in the table's order, both stretches."""
    rows = [row for row in ROWS if any(s.row == row.name for s in scores)]
    plots = []
    for column in COLUMNS:
        curves = []
        for stretch, words in STRETCHES.items():
            values = [_values(scores, row.name, stretch, column) for row in rows]
            places = [i + 1 for i, v in enumerate(values) if v]
            curves.append(Curve(words, places, [spread(v).mean for v in values if v], markers=True))
        if curves[0].points:
            plots.append(Plot(column.title, "row of the tables, from above", "", tuple(curves)))
    draw_sheet(plots).save(path)
