"""The audio tensors of a student alone, for a Wan network that something else has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ..networks.profile import StudentProfile
from ..networks.wan import WanConfig
from .accounting import account
from .build import check_speech_encoder
from .contents import Contents, read_contents, unscaled
from .detect import AUDIOPACK, Signature, describe_config
from .key_maps import split_audio
from .profile import choose_profile
from .recipes import LazyTensors
from .safetensors_file import read_tensors
from .sentence import check_sentence, read_sentence, split_sentence
from .tensors import FileReader

_PROJECTION = "audio_proj.proj.weight"
_NORM = "audio_proj.norm_out.weight"


@dataclass(frozen=True)
class AudioPart:
    """The audio half of a student. config: of the network it belongs to, with its own sizes filled in."""

    path: Path
    config: WanConfig
    profile: StudentProfile
    tensors: LazyTensors
    own_sentence: LazyTensors | None = None

    def sentence(self) -> Tensor | None:
        """Read the text rows (1, M, width) that the file brings with it; None where it brings none."""
        return read_sentence(self.own_sentence)

    def read(self) -> dict[str, Tensor]:
        """Read the tensors, and nothing else of the file."""
        return unscaled(self.tensors).read()

    def describe(self) -> str:
        """Lines for a node: what network and file make up, and which profile was taken and why."""
        return (
            f"{describe_config(self.config)}, {len(self.tensors)} audio tensors from {self.path.name}\n"
            f"profile {self.profile.name}: {self.profile.source}"
        )


def open_audio(
    path: str | Path, network: WanConfig, *, choice: str | None = None, read: FileReader = read_tensors
) -> AudioPart:
    """Find the audio tensors in a file, whole or their own, and check that they belong to a network.

    network: sizes of the loaded Wan network. choice: name of a profile, None to leave it to the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one sentence that starts with the path: no audio tensors, or those of another network.
    """
    contents = read_contents(path, read=read)
    try:
        return _fitting(contents, network, choice)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _fitting(contents: Contents, network: WanConfig, choice: str | None) -> AudioPart:
    tensors = contents.tensors.subset(split_audio(contents.tensors)[1])
    shapes = tensors.shapes
    if _PROJECTION not in shapes or _NORM not in shapes:
        raise ValueError(
            "the file has no audio tensors (audio_proj, audio_cond_projs); pick the whole file of the student, as it "
            "was published"
        )
    config = replace(network, audio_in=shapes[_PROJECTION][1], audio_hidden=shapes[_NORM][0])
    own = {name: shape for name, shape in shapes.items() if not name.startswith("speech_encoder.")}
    report = account(own, _expected(config), quantised=True)
    if not report.complete:
        raise ValueError(
            f"its audio part belongs to another network than {describe_config(network)}: {report.sentence()}"
        )
    encoder = len(own) < len(shapes)
    signature = Signature(AUDIOPACK, describe_config(config), config=config, own_speech_encoder=encoder)
    profile = choose_profile(contents.metadata, signature, form=contents.form, choice=choice)
    check_speech_encoder(shapes, profile)
    sentence = split_sentence(contents.tensors)[1]
    check_sentence(sentence, config)
    return AudioPart(contents.path, config, profile, tensors, sentence)


def _expected(config: WanConfig) -> Mapping[str, tuple[int, ...]]:
    """Names and axes of the audio tensors that a network of these sizes takes."""
    hidden = config.audio_hidden
    expected = {
        _PROJECTION: (hidden, config.audio_in),
        "audio_proj.proj.bias": (hidden,),
        _NORM: (hidden,),
        "audio_proj.norm_out.bias": (hidden,),
    }
    for index in range(config.audio_projections):
        expected[f"audio_cond_projs.{index}.weight"] = (config.dim, hidden)
        expected[f"audio_cond_projs.{index}.bias"] = (config.dim,)
    return expected
