"""The rows of the ablation table: what each leaves out, and which settings that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from ..training.config import Recipe, StageRecipe

Group = Literal["echo", "lip"]
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Row:
    """One line of the table.

    group: the form and recipe that it belongs to, echo for EchoTorrent's or lip for Lip Forcing's; it is compared with
    that group's full row. changes: of the distillation's settings. history: of the layers in place of the form's, for
    which the row then has its own initialisation. sink: in place of the form's. from_teacher: starts at the teacher's
    weights. plain_decoder: shown by the codec's own decoder. student: name of the row whose student this one shows.
    buys: measures that the part is said to improve (the published tables' own words).
    """

    name: str
    title: str
    group: Group
    changes: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    history: tuple[int, ...] | None = None
    sink: int | None = None
    from_teacher: bool = False
    plain_decoder: bool = False
    student: str = ""
    buys: tuple[str, ...] = ()

    @property
    def trained(self) -> str:
        """Name of the row that trains this one's student."""
        return self.student or self.name

    @property
    def refined(self) -> bool:
        """Whether a refined decoder shows it; Lip Forcing knows none."""
        return self.group == "echo" and not self.plain_decoder

    @property
    def is_full(self) -> bool:
        """Whether it is what the others of its group are compared with."""
        return self.name == FULL[self.group]


FULL: dict[Group, str] = {"echo": "full", "lip": "lip_full"}
_LONG_HISTORY = 12
ROWS = (
    Row("full", "full", "echo"),
    Row(
        "no_init", "without causal initialisation", "echo", from_teacher=True,
        buys=("sync_c", "r_open", "sharpness", "identity", "mouth_outside", "background"),
    ),
    Row(
        "original_dmd", "original DMD", "echo", {"guidance_rule": "constant"},
        buys=("sync_c", "r_open", "identity"),
    ),
    Row(
        "causal", "full causal", "echo", history=(_LONG_HISTORY,),
        buys=("sharpness", "mouth_outside", "background"),
    ),
    Row("bidirectional", "full bidirectional", "echo", history=(0,), buys=("identity", "mouth_outside")),
    Row("no_sink", "without reference sink", "echo", sink=0, buys=("identity",)),
    Row(
        "all_latents", "loss on all frames", "echo", {"tail_latents": "window"},
        buys=("sync_c", "r_open", "sharpness", "identity", "mouth_outside", "background"),
    ),
    Row(
        "plain_decoder", "without decoder refiner", "echo", plain_decoder=True, student="full",
        buys=("sharpness", "mouth_outside"),
    ),
    Row("lip_full", "full, Lip Forcing's form", "lip"),
    Row(
        "no_window", "without sync window", "lip", {"guidance_rule": "constant", "audio_guidance": 4.5},
        buys=("sharpness", "identity", "background"),
    ),
    Row("no_reward", "without reward", "lip", {"reward": "none"}, buys=("sync_c", "r_open")),
)  # fmt: skip


def rows_of(names: list[str]) -> list[Row]:
    """Rows by name, in the table's order, with the full row of every group that is asked for.

    Raises ValueError for names that do not exist.
    """
    known = {row.name: row for row in ROWS}
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"rows are {unknown}; expected some of {', '.join(known)}")
    wanted = set(names) | {FULL[known[name].group] for name in names}
    return [row for row in ROWS if row.name in wanted]


def changed_part(part: StageRecipe, row: Row, *, seed: int) -> StageRecipe:
    """A group's distillation stage with a row's settings and seed, in a folder of its own.

    "window" as a setting's value is the length of the window. Raises ValueError where a setting is changed into what
    the recipe has already: such a row would repeat the full one.
    """
    settings = part.settings
    changes = {name: settings.window if value == "window" else value for name, value in row.changes.items()}
    same = all(getattr(settings, name) == value for name, value in changes.items())
    if changes and same:
        raise ValueError(
            f"row {row.name} sets {changes}, which the recipe has already; give a recipe whose last stage does not"
        )
    return replace(part, name=f"{row.trained}_{seed}", settings=replace(settings, **changes, seed=seed))


def changed_recipe(recipe: Recipe, row: Row, *, seed: int) -> Recipe:
    """A group's recipe as this row trains it: its last stage alone."""
    part = recipe.stages[-1]
    return replace(
        recipe, stages=(changed_part(part, row, seed=seed),),
        history=row.history or recipe.history, sink=recipe.sink if row.sink is None else row.sink,
        start=recipe.teacher if row.from_teacher else recipe.start,
    )  # fmt: skip
