"""Files of the MultiTalk family: one file, shards with an index, or a Wan network and its audio part apart.

SoulX-FlashTalk is published as four shards with an index, InfiniteTalk as the audio part to a Wan 2.1
image-to-video network (seven shards, or one file). All have the same 1303 + 330 tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..networks.multitalk import FRAMES_PER_LATENT, MultiTalkConfig
from ..networks.multitalk_profiles import MULTITALK_PROFILES
from ..networks.profile import METADATA_KEY, StudentProfile
from ..networks.wan import WanConfig
from .accounting import account, expected_shapes
from .contents import Contents, read_contents
from .detect import HEAD_WIDTH, is_quantisation_key, is_quantised
from .recipes import LazyTensors
from .safetensors_file import read_tensors
from .tensors import FileReader

OTHER_SPELLING = "multitalk_audio_proj."
SLOT_WIDTH = 768
_SIZES = {1536: "1.3B", 5120: "14B"}

Shapes = Mapping[str, tuple[int, ...]]


class JoinedTensors(Mapping[str, "Tensor"]):
    """Tensors of several files under flat names, each read when it is asked for; later files win."""

    def __init__(self, parts: Iterable[LazyTensors]) -> None:
        self._parts: dict[str, LazyTensors] = {name: part for part in parts for name in part}

    def __getitem__(self, name: str) -> Tensor:
        return self._parts[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> axes, from the headers."""
        shapes = {id(part): part.shapes for part in self._parts.values()}
        return {name: shapes[id(part)][name] for name, part in self._parts.items()}

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read these in one opening of each file."""
        wanted: dict[int, list[str]] = {}
        parts = {id(part): part for part in self._parts.values()}
        for name in names:
            wanted.setdefault(id(self._parts[name]), []).append(name)
        read = {}
        for key, some in wanted.items():
            read |= parts[key].subset(some).read()
        return read


@dataclass(frozen=True)
class MultiTalkStudent:
    """A student of the family known by the headers of its files.

    config: sizes of the whole network. quantised: scales lie beside weights, for ComfyUI's own loader only.
    """

    files: tuple[Path, ...]
    config: WanConfig
    profile: StudentProfile
    tensors: JoinedTensors
    quantised: bool

    @property
    def audio_names(self) -> tuple[str, ...]:
        """Names of the audio part, which ComfyUI's Wan loader does not know."""
        return tuple(name for name in self.tensors if is_audio(name))

    def wan_tensors(self) -> dict[str, Tensor]:
        """Read the Wan network alone."""
        return self.tensors.read(name for name in self.tensors if not is_audio(name))

    def audio_tensors(self) -> dict[str, Tensor]:
        """Read the audio part alone."""
        return self.tensors.read(self.audio_names)

    def describe(self) -> str:
        """Two lines for a node: what the files are, and which profile was taken and why."""
        size = _SIZES.get(self.config.dim, f"width {self.config.dim}")
        audio, files = len(self.audio_names), len(self.files)
        return (
            f"a MultiTalk student ({size}, {self.config.num_layers} layers): {len(self.tensors) - audio} tensors of "
            f"Wan image-to-video and {audio} of the audio part, from {files} file{'s' if files > 1 else ''}\n"
            f"profile {self.profile.name}: {self.profile.source}"
        )


def is_audio(name: str) -> bool:
    """Whether a flat name belongs to the audio part."""
    return name.startswith("audio_proj.") or ".audio_cross_attn." in name or ".norm_x." in name


def open_multitalk(
    path: str | Path,
    *,
    audio: str | Path | None = None,
    choice: str | None = None,
    read: FileReader = read_tensors,
) -> MultiTalkStudent:
    """Recognise a student by the headers of its files and check that it is whole; no weights are read.

    path: a file, an index, a folder with one, or any shard beside its index. audio: the audio part, where it is a
    file of its own. choice: name of a profile, or None for the file's own or the likeliest. read: how to read tensors
    of safetensors files, where a host has a better way.

    Raises:
        FileNotFoundError: a file is not there.
        ValueError: one sentence that starts with the path: a part is missing or another kind of network, tensors
            missing or unknown, no such profile.
    """
    parts = [read_contents(file, read=read) for file in (path, audio) if file is not None]
    tensors = JoinedTensors(_spelled(part.tensors) for part in parts)
    shapes = tensors.shapes
    try:
        _check_parts(shapes)
        config = read_multitalk_config(shapes)
        quantised = is_quantised(shapes)
        report = account(shapes, expected_shapes(config), quantised=quantised)
        if not report.complete:
            raise ValueError(report.sentence())
        profile = _profile(parts, choice=choice, pair=audio is not None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    files = tuple(file for part in parts for file in part.tensors.checkpoint.files)
    return MultiTalkStudent(files, config, profile, tensors, quantised)


def _spelled(tensors: LazyTensors) -> LazyTensors:
    """The same tensors with the audio part in InfiniteTalk's spelling."""
    names = {name.replace(OTHER_SPELLING, "audio_proj."): recipe for name, recipe in tensors.recipes.items()}
    return tensors.changed(names)


def read_multitalk_config(shapes: Shapes) -> WanConfig:
    """Sizes of the whole network. Raises ValueError where a tensor that tells one is missing."""

    def axis(name: str, at: int) -> int:
        if name not in shapes:
            raise ValueError(
                f"the tensor {name} is missing, which tells the size of the network; download it again"
            )
        return shapes[name][at]

    dim = axis("head.modulation", -1)
    first, later = axis("audio_proj.proj1.weight", 1), axis("audio_proj.proj1_vf.weight", 1)
    features = (later - first) // (FRAMES_PER_LATENT - 1)
    token_width = axis("audio_proj.norm.weight", 0)
    layers = [name.split(".")[1] for name in shapes if name.startswith("blocks.")]
    return WanConfig(
        dim=dim,
        in_dim=axis("patch_embedding.weight", 1),
        out_dim=axis("head.head.weight", 0) // 4,
        ffn_dim=axis("blocks.0.ffn.0.weight", 0),
        num_heads=dim // HEAD_WIDTH,
        num_layers=1 + max((int(number) for number in layers if number.isdecimal()), default=-1),
        text_dim=axis("text_embedding.0.weight", 1),
        freq_dim=axis("time_embedding.0.weight", 1),
        image_in=axis("img_emb.proj.0.weight", 0),
        multitalk=MultiTalkConfig(
            slots=features // SLOT_WIDTH,
            slot_width=SLOT_WIDTH,
            hidden=axis("audio_proj.proj1.weight", 0),
            tokens=axis("audio_proj.proj3.weight", 0) // token_width,
            token_width=token_width,
            window=first // features,
        ),
    )


def _check_parts(shapes: Shapes) -> None:
    """Raises ValueError where one of the two parts is missing, or the Wan network is another kind."""
    audio = any(is_audio(name) for name in shapes if not is_quantisation_key(name))
    if "patch_embedding.weight" not in shapes:
        raise ValueError(
            "this is the audio part of an InfiniteTalk or MultiTalk student alone; load a Wan 2.1 image-to-video "
            "network and give this file as its audio part"
            if audio
            else "this holds no Wan network; pick a MultiTalk student, its index, or the folder of its shards"
        )
    channels = shapes["patch_embedding.weight"][1]
    if channels != 36 or "img_emb.proj.0.weight" not in shapes:
        raise ValueError(
            f"this Wan network has {channels} input channels and "
            f"{'reads' if 'img_emb.proj.0.weight' in shapes else 'does not read'} CLIP vision; a MultiTalk student "
            "is a Wan 2.1 image-to-video network with 36 that does"
        )
    if not audio:
        raise ValueError(
            "this is a Wan image-to-video network without an audio part; give the InfiniteTalk file as its audio part"
        )


def _profile(parts: list[Contents], *, choice: str | None, pair: bool) -> StudentProfile:
    own = next((part.metadata[METADATA_KEY] for part in parts if METADATA_KEY in part.metadata), None)
    if choice is not None:
        if choice not in MULTITALK_PROFILES:
            raise ValueError(
                f"there is no profile {choice!r}; choose one of {', '.join(sorted(MULTITALK_PROFILES))}"
            )
        return replace(MULTITALK_PROFILES[choice], source="chosen by you")
    if own is not None:
        return replace(StudentProfile.from_json(own), source="the file's own metadata")
    name = "infinitetalk" if pair else "flashtalk"
    kind = (
        "an audio part of its own, as InfiniteTalk is published"
        if pair
        else "one whole network, as FlashTalk is"
    )
    return replace(MULTITALK_PROFILES[name], source=f"its form: {kind}; choose another if it is not")
