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
from .contents import Contents, read_contents, unscaled
from .detect import HEAD_WIDTH, is_quantisation_key, is_quantised
from .neighbours import MULTITALK, MULTITALK_AUDIO, name_neighbour
from .profile import read_own_profile
from .recipes import LazyTensors, Scaled
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

    def files(self, names: Iterable[str]) -> list[LazyTensors]:
        """These tensors, file by file."""
        wanted: dict[int, list[str]] = {}
        parts = {id(part): part for part in self._parts.values()}
        for name in names:
            wanted.setdefault(id(self._parts[name]), []).append(name)
        return [parts[key].subset(some) for key, some in wanted.items()]

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Read these in one opening of each file."""
        return {name: tensor for part in self.files(names) for name, tensor in part.read().items()}


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

    @property
    def wan_names(self) -> tuple[str, ...]:
        """Names of the Wan network, with the scales of quantised weights."""
        return tuple(name for name in self.tensors if not is_audio(name))

    def wan_tensors(self) -> dict[str, Tensor]:
        """Read the Wan network alone."""
        return self.tensors.read(self.wan_names)

    def audio_tensors(self) -> dict[str, Tensor]:
        """Read the audio part alone; the scales of quantised weights are multiplied in."""
        return read_plain(self.tensors.files(self.audio_names))

    def describe(self) -> str:
        """Two lines for a node: what the files are, and which profile was taken and why."""
        audio, files = len(self.audio_names), len(self.files)
        return (
            f"{describe_multitalk(self.config)}: {len(self.tensors) - audio} tensors of Wan image-to-video and {audio} "
            f"of the audio part, from {files} file{'s' if files > 1 else ''}\n"
            f"profile {self.profile.name}: {self.profile.source}"
        )


@dataclass(frozen=True)
class MultiTalkAudio:
    """The audio part of a student, for a Wan network that something else has loaded. config: of both together."""

    path: Path
    config: WanConfig
    profile: StudentProfile
    tensors: LazyTensors

    def read(self) -> dict[str, Tensor]:
        """Read the tensors; the scales of quantised weights are multiplied in."""
        return read_plain([self.tensors])

    def describe(self) -> str:
        """Two lines for a node: what network and file make up, and which profile was taken and why."""
        return (
            f"{describe_multitalk(self.config)}, {len(self.tensors)} audio tensors from {self.path.name}\n"
            f"profile {self.profile.name}: {self.profile.source}"
        )


def describe_multitalk(config: WanConfig) -> str:
    """One phrase for a node: "a MultiTalk student (14B, 40 layers)"."""
    size = _SIZES.get(config.dim, f"width {config.dim}")
    return f"a MultiTalk student ({size}, {config.num_layers} layers)"


def read_plain(parts: Iterable[LazyTensors]) -> dict[str, Tensor]:
    """Read tensors without the scales of quantised weights, which are multiplied in and rounded to bfloat16."""
    read = {}
    for part in parts:
        plain = unscaled(part)
        scaled = {name for name, recipe in plain.recipes.items() if isinstance(recipe, Scaled)}
        read |= {name: x.bfloat16() if name in scaled else x for name, x in plain.read().items()}
    return read


def is_multitalk(shapes: Shapes) -> bool:
    """Whether flat names are those of a student of this family, whole or its audio part alone."""
    return name_neighbour(shapes) in (MULTITALK, MULTITALK_AUDIO)


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
        profile = _profile(parts, config.multitalk, choice=choice, pair=audio is not None)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    files = tuple(file for part in parts for file in part.tensors.checkpoint.files)
    return MultiTalkStudent(files, config, profile, tensors, quantised)


def open_multitalk_audio(
    path: str | Path, network: WanConfig, *, choice: str | None = None, read: FileReader = read_tensors
) -> MultiTalkAudio:
    """Find the audio part in a file, whole or its own, and check that it belongs to a Wan network.

    network: sizes of the loaded network. choice: name of a profile, None to leave it to the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one sentence that starts with the path: no audio part, or that of another network.
    """
    contents = read_contents(path, read=read)
    whole = _spelled(contents.tensors)
    tensors = whole.subset(name for name in whole if is_audio(name))
    try:
        if "audio_proj.proj1.weight" not in tensors:
            raise ValueError(
                "the file has no audio part of the MultiTalk family (audio_proj.proj1, audio_cross_attn), as a Wan "
                "image-to-video MODEL needs it; pick the InfiniteTalk file or the whole student, or connect the MODEL "
                "that this file belongs to"
            )
        config = replace(network, multitalk=read_audio_config(tensors.shapes))
        expected = {name: shape for name, shape in expected_shapes(config).items() if is_audio(name)}
        report = account(tensors.shapes, expected, quantised=True)
        if not report.complete:
            raise ValueError(
                f"its audio part belongs to another network than {describe_multitalk(config)}: {report.sentence()}"
            )
        pair = "patch_embedding.weight" not in whole
        profile = _profile([contents], config.multitalk, choice=choice, pair=pair)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return MultiTalkAudio(contents.path, config, profile, tensors)


def _spelled(tensors: LazyTensors) -> LazyTensors:
    """The same tensors with the audio part in InfiniteTalk's spelling."""
    names = {name.replace(OTHER_SPELLING, "audio_proj."): recipe for name, recipe in tensors.recipes.items()}
    return tensors.changed(names)


def read_multitalk_config(shapes: Shapes) -> WanConfig:
    """Sizes of the whole network. Raises ValueError where a tensor that tells one is missing."""
    dim = _axis(shapes, "head.modulation", -1)
    layers = [name.split(".")[1] for name in shapes if name.startswith("blocks.")]
    return WanConfig(
        dim=dim,
        in_dim=_axis(shapes, "patch_embedding.weight", 1),
        out_dim=_axis(shapes, "head.head.weight", 0) // 4,
        ffn_dim=_axis(shapes, "blocks.0.ffn.0.weight", 0),
        num_heads=dim // HEAD_WIDTH,
        num_layers=1 + max((int(number) for number in layers if number.isdecimal()), default=-1),
        text_dim=_axis(shapes, "text_embedding.0.weight", 1),
        freq_dim=_axis(shapes, "time_embedding.0.weight", 1),
        image_in=_axis(shapes, "img_emb.proj.0.weight", 0),
        multitalk=read_audio_config(shapes),
    )


def read_audio_config(shapes: Shapes) -> MultiTalkConfig:
    """Sizes of the audio part. Raises ValueError where a tensor that tells one is missing."""
    first, later = (_axis(shapes, f"audio_proj.{name}.weight", 1) for name in ("proj1", "proj1_vf"))
    features = (later - first) // (FRAMES_PER_LATENT - 1)
    token_width = _axis(shapes, "audio_proj.norm.weight", 0)
    if features < SLOT_WIDTH:
        raise ValueError(
            f"audio_proj.proj1 and proj1_vf take {first} and {later} numbers, which is no speech window; "
            "download the file again"
        )
    return MultiTalkConfig(
        slots=features // SLOT_WIDTH,
        slot_width=SLOT_WIDTH,
        hidden=_axis(shapes, "audio_proj.proj1.weight", 0),
        tokens=_axis(shapes, "audio_proj.proj3.weight", 0) // token_width,
        token_width=token_width,
        window=first // features,
    )


def _axis(shapes: Shapes, name: str, at: int) -> int:
    if name not in shapes:
        raise ValueError(
            f"the tensor {name} is missing, which tells the size of the network; download it again"
        )
    return shapes[name][at]


def _check_parts(shapes: Shapes) -> None:
    """Raises ValueError where one of the two parts is missing, or the Wan network is another kind."""
    audio = any(is_audio(name) for name in shapes if not is_quantisation_key(name))
    if "patch_embedding.weight" not in shapes:
        raise ValueError(
            "this is the audio part of an InfiniteTalk or MultiTalk student alone; give it with a Wan 2.1 "
            "image-to-video network, which Load Student takes as base"
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


def _profile(
    parts: list[Contents], config: MultiTalkConfig, *, choice: str | None, pair: bool
) -> StudentProfile:
    """The file's own profile; else the one of its form, unless the user knows better: their tensors look the same.

    Raises ValueError for a choice against the file's own, and for one that is of another family.
    """
    if choice is not None and choice not in MULTITALK_PROFILES:
        raise ValueError(
            f"there is no profile {choice!r} of this family; choose one of {', '.join(sorted(MULTITALK_PROFILES))}"
        )
    own = next((part.metadata[METADATA_KEY] for part in parts if METADATA_KEY in part.metadata), None)
    if own is not None:
        profile = read_own_profile(own, choice=choice)
        _check_own(profile, config)
        return profile
    likely = "infinitetalk" if pair else "flashtalk"
    kind = (
        "an audio part of its own, as InfiniteTalk is published"
        if pair
        else "one whole network, as FlashTalk is"
    )
    source = f"its form: {kind}; choose another if it is not"
    if choice is not None:
        source = "chosen by you" if choice == likely else f"chosen by you; by its form it would be {likely}"
    return replace(MULTITALK_PROFILES[choice or likely], source=source)


def _check_own(profile: StudentProfile, config: MultiTalkConfig) -> None:
    """Raises ValueError for a profile in the metadata that is another network's."""
    speech = profile.speech
    wanted = (speech.window_frames, speech.feature_slots, speech.feature_width)
    got = (config.window, config.slots, config.slot_width)
    if profile.family != "multitalk" or wanted != got:
        raise ValueError(
            f"the profile in the file's metadata is of the family {profile.family} and hears {wanted[0]} x {wanted[1]} "
            f"x {wanted[2]} numbers a frame, the tensors are of multitalk and take {got[0]} x {got[1]} x {got[2]}; "
            "export the file again"
        )
