"""Recipes: YAML files parsed into frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from .codec import CodecSettings
from .dmd import DistilSettings
from .experts import ExpertSettings
from .finetune import FinetuneSettings
from .ode import OdeSettings
from .refiner import RefinerSettings
from .speech import SpeechSettings
from .sync_stage import SyncNetSettings
from .teacher import TeacherSettings
from .trainer import Budget
from .world.dataset import DatasetSize

STAGES = {
    "codec": CodecSettings,
    "speech": SpeechSettings,
    "teacher": TeacherSettings,
    "finetune": FinetuneSettings,
    "ode": OdeSettings,
    "expert": ExpertSettings,
    "distil": DistilSettings,
    "syncnet": SyncNetSettings,
    "refiner": RefinerSettings,
}


@dataclass(frozen=True)
class StageRecipe:
    """One stage: its kind (a key of STAGES), settings, and how long it trains on a CPU and on a GPU.

    name: of its folder inside the recipe's, the kind where it is empty.
    """

    stage: str
    settings: Any
    cpu: Budget
    gpu: Budget
    name: str = ""

    @property
    def folder(self) -> str:
        """Where its checkpoint lies inside the recipe's folder."""
        return self.name or self.stage


@dataclass(frozen=True)
class Recipe:
    """A complete run. Folders are relative to the folder that training is started in.

    folder: checkpoints and logs. data, held_out: what is drawn for it, and where. versions: augmented versions of each
    clip's speech. lip_sync: the student sees the clips and learns to dub them; every clip is drawn once more with
    another one's voice. form: sizes, schedule and cache of the student. sink, history: of its cache, in place of the
    form's, see CacheSpec. codec: an exported file, or the folder of an earlier run. start: what this run goes on from,
    a finished stage of an earlier run; a codec goes on from what codec: could name. teacher: finished stage whose
    network judges a distillation, start's own where it is missing. experts: the same for clips of a domain, by its
    name. syncnet: folder of a finished sync teacher. export_codec, export_student, export_refiner: files that it writes
    at its end.
    """

    folder: Path
    data: DatasetSize
    data_folder: Path
    held_out: DatasetSize
    held_out_folder: Path
    stages: tuple[StageRecipe, ...]
    versions: int = 4
    lip_sync: bool = False
    form: Literal["mini", "mini_echo"] = "mini"
    sink: int | None = None
    history: tuple[int, ...] | None = None
    codec: Path | None = None
    start: Path | None = None
    teacher: Path | None = None
    experts: dict[str, Path] = field(default_factory=dict)
    syncnet: Path | None = None
    export_codec: Path | None = None
    export_student: Path | None = None
    export_refiner: Path | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        folders = [stage.folder for stage in self.stages]
        twice = sorted({folder for folder in folders if folders.count(folder) > 1})
        if twice:
            raise ValueError(f"stages share the folders {twice}; give each a name: of its own")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises ValueError naming the key for unknown, missing or mistyped entries."""
    import yaml

    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; expected a mapping of recipe keys")
    return _parse_recipe(values, str(path))


def _parse_recipe(values: dict[str, Any], where: str) -> Recipe:
    stages = values.get("stages")
    if not isinstance(stages, list) or not stages:
        raise ValueError(f"{where}: stages is {stages!r}; expected a list of at least one stage")
    parsed = tuple(_parse_stage(stage, f"{where}: stages[{i}]") for i, stage in enumerate(stages))
    return parse(Recipe, {**values, "stages": parsed}, where)


def _parse_stage(values: dict[str, Any], where: str) -> StageRecipe:
    name = values.get("stage")
    if name not in STAGES:
        raise ValueError(f"{where}: stage is {name!r}; expected one of {', '.join(STAGES)}")
    settings = parse(STAGES[name], values.get("settings") or {}, f"{where}.settings")
    return parse(StageRecipe, {**values, "settings": settings}, where)


def parse(cls: type, values: dict[str, Any], where: str) -> Any:  # noqa: ANN401
    """Mapping -> dataclass, recursively by its annotations. Raises ValueError with the place and the allowed keys."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}; expected a mapping with keys of {cls.__name__}")
    hints = typing.get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{where} has unknown keys {unknown}; allowed: {sorted(known)}")
    missing = [
        name
        for name, item in known.items()
        if item.default is MISSING and item.default_factory is MISSING and name not in values
    ]
    if missing:
        raise ValueError(f"{where} lacks {missing}")
    return cls(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:  # noqa: ANN401
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return None if value is None else _convert(inner[0], value, where)
    if origin is tuple:
        return _convert_tuple(typing.get_args(kind), value, where)
    if origin is dict:
        return _convert_mapping(typing.get_args(kind)[1], value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{where} is {value!r}; expected one of {typing.get_args(kind)}")
        return value
    if is_dataclass(kind):
        return value if isinstance(value, kind) else parse(kind, value, where)
    if kind is Path:
        return Path(str(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, str, bool) and (type(value) is not kind):
        raise ValueError(f"{where} is {value!r}; expected {kind.__name__}")
    return value


def _convert_mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}; expected a mapping")
    return {str(name): _convert(kind, item, f"{where}.{name}") for name, item in value.items()}


def _convert_tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:  # noqa: ANN401
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{where} is {value!r}; expected a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} entries; expected {len(kinds)}")
    return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
