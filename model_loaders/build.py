"""From a student's file to networks: headers first, modules on the meta device, tensors assigned once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..networks.audio_pack import AudioPack
from ..networks.profile import SpeechProfile, StudentProfile
from ..networks.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from ..networks.wan import WanConfig, WanModel
from .accounting import account, check_network
from .companions import published_as
from .contents import read_contents, unscaled
from .detect import Signature, detect, is_quantised, require_student
from .key_maps import split_audio
from .profile import choose_profile
from .recipes import LazyTensors
from .safetensors_file import read_tensors
from .sentence import check_sentence, describe_sentence, read_sentence, split_sentence
from .tensors import FileReader

Operations = ModuleType | Any
_SPEECH_ENCODER = "speech_encoder."


@dataclass(frozen=True)
class Student:
    """A student known by the header of its file: what it is, how it runs, where its tensors are.

    tensors: under flat names, read when asked for.
    notes: how the file was read, where that is more than one plain file.
    own_sentence: the encoded text that the file brings with it, or None.
    """

    path: Path
    signature: Signature
    config: WanConfig
    profile: StudentProfile
    tensors: LazyTensors
    notes: tuple[str, ...] = ()
    own_sentence: LazyTensors | None = None

    def wan_tensors(self) -> dict[str, Tensor]:
        """Read the tensors that ComfyUI's own Wan loader knows."""
        return self.tensors.subset(split_audio(self.tensors)[0]).read()

    def audio_tensors(self) -> dict[str, Tensor]:
        """Read the rest: AudioPack, its projections, and the speech encoder where the student has one."""
        return unscaled(self.tensors.subset(split_audio(self.tensors)[1])).read()

    def sentence(self) -> Tensor | None:
        """Read the text rows (1, M, width) that the file brings with it; None where it brings none."""
        return read_sentence(self.own_sentence)

    def describe(self) -> str:
        """Lines for a node: what the file is and how it was read, and which profile was taken and why."""
        what = "; ".join((self.signature.description, *self.notes))
        return f"{what}\nprofile {self.profile.name}: {self.profile.source}"


def open_student(
    path: str | Path,
    *,
    choice: str | None = None,
    base: str | Path | None = None,
    read: FileReader = read_tensors,
) -> Student:
    """Recognise a student by its header and check that it is whole; no weights are read.

    path: a safetensors or PyTorch file, a shard or index of a split one, or its folder.
    choice: name of a profile, or None to take the file's own or its family's.
    base: the Wan network that an adapter is merged into; not looked at for other files.
    read: how to read tensors of safetensors files, where a host has a better way.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: one sentence that starts with the path: cut off, another kind of file, another family, tensors
            missing or unknown, no profile.
    """
    contents = read_contents(path, base=base, read=read)
    tensors, sentence = split_sentence(contents.tensors)
    shapes, notes = tensors.shapes, contents.notes
    try:
        signature = detect(shapes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    config = require_student(signature, path=path)
    try:
        _check_whole(shapes, signature)
        profile = choose_profile(contents.metadata, signature, form=contents.form, choice=choice)
        check_speech_encoder(shapes, profile)
        check_sentence(sentence, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if sentence is not None:
        notes = (*notes, describe_sentence(sentence, contents.metadata))
    return Student(contents.path, signature, config, profile, tensors, notes, sentence)


def _check_whole(shapes: Mapping[str, tuple[int, ...]], signature: Signature) -> None:
    """check_network, whose sentence then says where the whole file comes from."""
    config = signature.config
    try:
        check_network(shapes, config, quantised=signature.quantised)
    except ValueError as error:
        source = published_as(dim=config.dim, in_dim=config.in_dim)
        whole = "" if source is None else f"; the whole {source.line()}"
        raise ValueError(f"{error}{whole}") from error


def build_network(
    tensors: Mapping[str, Tensor],
    config: WanConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
) -> WanModel:
    """A network holding these tensors, frozen and in eval mode.

    tensors: flat names, speech encoder tensors are passed over. dtype: None keeps the stored one.

    Raises:
        ValueError: names are missing, unknown or of other sizes, or the weights are quantised.
    """
    tensors = _in_memory(tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if is_quantised(shapes):
        raise ValueError(
            "the weights are quantised, which only ComfyUI's loader understands; use Load Student"
        )
    check_network(shapes, config)
    with torch.device("meta"):
        network = WanModel(config, operations=operations)
    own = {name: tensor for name, tensor in tensors.items() if not _is_encoder(name)}
    return _assigned(network, own, device=device, dtype=dtype)


class AudioModules(nn.Module):
    """What a student adds to a Wan network, under the names of its file.

    speech_encoder is None where the student hears through wav2vec2.
    """

    def __init__(
        self, audio_proj: AudioPack, audio_cond_projs: nn.ModuleList, speech_encoder: nn.Module | None
    ) -> None:
        super().__init__()
        self.audio_proj = audio_proj
        self.audio_cond_projs = audio_cond_projs
        self.speech_encoder = speech_encoder


def build_audio_modules(
    tensors: Mapping[str, Tensor],
    profile: StudentProfile,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    operations: Operations = nn,
) -> AudioModules:
    """The audio modules alone, sizes from the tensors, frozen and in eval mode.

    tensors: flat names of the audio half (split_audio). dtype: None keeps the stored one.

    Raises:
        ValueError: names are missing, unknown or of other sizes.
    """
    tensors = _in_memory(tensors)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if is_quantised(shapes):
        raise ValueError("the audio tensors are quantised; keep those about 32 tensors in bf16 or fp16")
    if "audio_proj.proj.weight" not in shapes or "audio_cond_projs.0.weight" not in shapes:
        raise ValueError(
            "the audio tensors lack audio_proj.proj or audio_cond_projs.0; load the whole file of the student"
        )
    hidden, audio_in = shapes["audio_proj.proj.weight"]
    dim = shapes["audio_cond_projs.0.weight"][0]
    count = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("audio_cond_projs."))
    with torch.device("meta"):
        modules = AudioModules(
            AudioPack(audio_in, hidden, operations=operations),
            nn.ModuleList(operations.Linear(hidden, dim) for _ in range(count)),
            _speech_encoder(shapes, profile),
        )
    expected = {name: tuple(tensor.shape) for name, tensor in modules.state_dict().items()}
    report = account(shapes, expected)
    if not report.complete:
        raise ValueError(f"audio {report.sentence()}")
    return _assigned(modules, tensors, device=device, dtype=dtype)


def check_speech_encoder(shapes: Mapping[str, tuple[int, ...]], profile: StudentProfile) -> None:
    """Check the tensors of the student's own speech encoder, and that it has one exactly when its profile says so.

    Raises:
        ValueError: names are missing, unknown or of other sizes.
    """
    present = {name: tuple(shape) for name, shape in shapes.items() if _is_encoder(name)}
    if not present and profile.speech.encoder == "mel":
        raise ValueError(
            f"profile {profile.name!r} needs the student's own speech encoder, but the file has no "
            f"{_SPEECH_ENCODER}* tensors; choose another profile or export the file again"
        )
    with torch.device("meta"):
        encoder = _speech_encoder(shapes, profile)
    expected = {} if encoder is None else encoder.state_dict(prefix=_SPEECH_ENCODER)
    report = account(present, {name: tuple(tensor.shape) for name, tensor in expected.items()})
    if not report.complete:
        raise ValueError(f"speech encoder {report.sentence()}")


def _speech_encoder(shapes: Mapping[str, tuple[int, ...]], profile: StudentProfile) -> SpeechEncoder | None:
    """The student's own speech encoder, widths from its tensors, look-ahead from its profile."""
    if not any(_is_encoder(name) for name in shapes):
        return None
    first, last = (_SPEECH_ENCODER + name for name in ("conv1.weight", "out.weight"))
    for name in (first, last):
        if len(shapes.get(name, ())) != 3:
            raise ValueError(f"the speech encoder has no {name} of three axes; export the file again")
    (hidden, bins, _), (width, _, _) = shapes[first], shapes[last]
    promised = (profile.speech.feature_width, profile.speech.mel.bins if profile.speech.mel else bins)
    if (width, bins) != promised:
        raise ValueError(
            f"the speech encoder makes {width} features of {bins} mel bins, its profile says {promised[0]} of "
            f"{promised[1]}; export the file again"
        )
    blocks = sum(name.startswith(_SPEECH_ENCODER) and name.endswith(".mix.weight") for name in shapes)
    config = SpeechEncoderConfig(
        bins=bins, width=width, hidden=hidden, blocks=blocks, ahead_mel=mel_ahead(profile.speech)
    )
    return SpeechEncoder(config)


def mel_ahead(speech: SpeechProfile) -> int:
    """Mel frames that the speech encoder hears after a video frame: ahead_seconds in hops.

    Raises:
        ValueError: the profile has no mel settings.
    """
    if speech.mel is None:
        raise ValueError(
            f"the student has its own speech encoder, but its profile hears through {speech.encoder}; "
            "leave the profile to the file"
        )
    return round(speech.ahead_seconds * speech.mel.sample_rate / speech.mel.hop_samples)


def _in_memory(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Lazy tensors read in one opening of their file; others as they are."""
    return tensors.read() if isinstance(tensors, LazyTensors) else tensors


def _is_encoder(name: str) -> bool:
    return name.startswith(_SPEECH_ENCODER)


def _assigned(
    module: nn.Module, tensors: Mapping[str, Tensor], *, device: torch.device | str, dtype: torch.dtype | None
) -> nn.Module:
    """Put tensors into a module on the meta device, without a second copy where type and device already fit."""
    moved = {name: tensor.to(device=device, dtype=dtype or tensor.dtype) for name, tensor in tensors.items()}
    module.load_state_dict(moved, strict=True, assign=True)
    return module.eval().requires_grad_(False)
