"""What a file is, read from names and shapes alone: a student, or a neighbour called by its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..networks.wan import WanConfig
from .neighbours import name_neighbour

Shapes = Mapping[str, tuple[int, ...]]

AUDIOPACK = "audiopack"
AUDIOPACK_AUDIO = "audiopack audio"
HEAD_WIDTH = 128  # channels of one attention head in every Wan network; it is not in the tensors
_AUDIOPACK_KEYS = ("audio_proj.proj.weight", "audio_proj.norm_out.weight", "audio_cond_projs.0.weight")
_LARGEST_AXIS = 1_000_000  # more than any network has
_MOST_DIGITS = 6
_SIZES = {1536: "1.3B", 5120: "14B"}
_QUANTISED_ENDS = (".scale_weight", ".weight_scale", ".scale_input", ".input_scale", ".comfy_quant")


@dataclass(frozen=True)
class Signature:
    """What the tensors say.

    family: "audiopack" for a student, "audiopack audio" for its audio part alone, otherwise empty.
    description: what the file is, to follow "this is ".
    advice: what to load instead, to follow a semicolon; empty for a student.
    config: the sizes of the network, for a student only.
    own_speech_encoder: the student brings its own speech encoder in the same file.
    quantised: weights carry scales beside them, which only ComfyUI's own loader understands.
    """

    family: str
    description: str
    advice: str = ""
    config: WanConfig | None = None
    own_speech_encoder: bool = False
    quantised: bool = False


def detect(shapes: Shapes) -> Signature:
    """Recognise a file.

    shapes: flat tensor names (after key_maps.strip_wrappers) -> axes.
    """
    neighbour = name_neighbour(shapes)
    if neighbour is not None:
        return Signature("", neighbour.description, neighbour.advice)
    own_encoder = any(name.startswith("speech_encoder.") for name in shapes)
    if "patch_embedding.weight" not in shapes:
        return Signature(
            AUDIOPACK_AUDIO,
            "the audio part of an AudioPack student, without its Wan network",
            "load the whole student, or connect this file to Use Model as Student beside the network's MODEL",
            own_speech_encoder=own_encoder,
        )
    config = read_config(shapes)
    return Signature(
        AUDIOPACK,
        describe_config(config),
        config=config,
        own_speech_encoder=own_encoder,
        quantised=is_quantised(shapes),
    )


def read_config(shapes: Shapes) -> WanConfig:
    """The sizes of a Wan network with AudioPack, from its shapes.

    Output rows are read wherever they say enough: quantised files may halve the input axis of a matrix.

    Raises:
        ValueError: a tensor that tells a size is missing, or the width is no multiple of a head's.
    """
    dim = _axis(shapes, "head.modulation", -1)
    if dim % HEAD_WIDTH:
        raise ValueError(
            f"the network is {dim} channels wide, expected a multiple of {HEAD_WIDTH} (one attention head); "
            "the file is damaged or of another family"
        )
    return WanConfig(
        dim=dim,
        in_dim=_axis(shapes, "patch_embedding.weight", 1),
        out_dim=_axis(shapes, "head.head.weight", 0) // 4,
        ffn_dim=_axis(shapes, "blocks.0.ffn.0.weight", 0),
        num_heads=dim // HEAD_WIDTH,
        num_layers=count_layers(shapes),
        text_dim=_axis(shapes, "text_embedding.0.weight", 1),
        freq_dim=_axis(shapes, "time_embedding.0.weight", 1),
        audio_in=_axis(shapes, "audio_proj.proj.weight", 1),
        audio_hidden=_axis(shapes, "audio_proj.norm_out.weight", 0),
    )


def describe_config(config: WanConfig) -> str:
    """One phrase for a node: "an AudioPack student (1.3B, 30 layers, 33 input channels)"."""
    size = _SIZES.get(config.dim, f"width {config.dim}")
    return f"an AudioPack student ({size}, {config.num_layers} layers, {config.in_dim} input channels)"


def count_layers(shapes: Shapes) -> int:
    """The number of layers that the file speaks of, so that a missing block counts as missing.

    It is told twice: by the highest block, and by the audio projections, which are half as many less one.
    """
    layers = max(_count(shapes, "blocks."), 2 * _count(shapes, "audio_cond_projs.") + 2)
    if layers > len(shapes):
        raise ValueError(
            f"the tensors speak of {layers} layers, but there are only {len(shapes)} of them; the file is damaged, "
            "download it again"
        )
    return layers


def _count(shapes: Shapes, prefix: str) -> int:
    """One more than the highest number that follows a prefix."""
    words = [name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)]
    numbers = [int(word) for word in words if word.isdecimal() and len(word) <= _MOST_DIGITS]
    return 1 + max(numbers, default=-1)


def is_quantised(shapes: Shapes) -> bool:
    """Whether scales for quantised weights lie beside the weights."""
    return any(is_quantisation_key(name) for name in shapes)


def is_quantisation_key(name: str) -> bool:
    """Whether a tensor only scales or describes another one."""
    return name == "scaled_fp8" or name.endswith(_QUANTISED_ENDS)


def require_student(signature: Signature, *, path: object) -> WanConfig:
    """The sizes of a student, or one sentence that says what the file is and what to load instead.

    Raises:
        ValueError: the file is no student of a supported family.
    """
    if signature.family == AUDIOPACK and signature.config is not None:
        return signature.config
    raise ValueError(f"{path} is {signature.description}, not a streaming student; {signature.advice}")


def _axis(shapes: Shapes, name: str, axis: int) -> int:
    if name not in shapes:
        raise ValueError(
            f"the tensor {name} is missing, which tells the size of the network; "
            "the file is incomplete, download it again"
        )
    shape = shapes[name]
    if not -len(shape) <= axis < len(shape) or not 0 < shape[axis] <= _LARGEST_AXIS:
        raise ValueError(
            f"the tensor {name} has the axes {list(shape)}, which tell no size of a network; the file is damaged, "
            "download it again"
        )
    return shape[axis]
