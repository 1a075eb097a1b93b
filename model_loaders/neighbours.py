"""Files that are easily picked by mistake, told apart by their names, each with what to load instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .companions import STUDENTS

Shapes = Mapping[str, tuple[int, ...]]

_LORA_PARTS = (".lora_A.", ".lora_B.", ".lora_down.", ".lora_up.")
_LORA_ENDS = (".alpha", ".diff", ".diff_b", ".dora_scale")
_PUBLISHED = " or ".join(f"{source.file} of {source.origin}" for source in STUDENTS)
_STUDENTS = f"pick a student: talkstream_mini comes with this pack, {_PUBLISHED} goes into models/{STUDENTS[0].folder}"


@dataclass(frozen=True)
class Neighbour:
    """One kind of file that is no student.

    description: follows "this is ".
    advice: what to do instead.
    matches: decides from flat tensor names and axes.
    """

    description: str
    advice: str
    matches: Callable[[Shapes], bool]


def name_neighbour(shapes: Shapes) -> Neighbour | None:
    """The kind of a file that is no AudioPack student; None when it is one, or the audio part of one."""
    for neighbour in _ADAPTERS:
        if neighbour.matches(shapes):
            return neighbour
    if all(_has(shapes, key) for key in ("audio_proj.proj.weight", "audio_proj.norm_out.weight")):
        return None
    for neighbour in (*_WAN_RELATIVES, *_COMPANIONS, *_OTHERS):
        if neighbour.matches(shapes):
            return neighbour
    first = ", ".join(sorted(shapes)[:3])
    return Neighbour(f"no file that we know (its first tensors are {first})", _STUDENTS, lambda _: True)


def _has(shapes: Shapes, name: str) -> bool:
    return name in shapes


def _any_with(part: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(part in name for name in shapes)


def _key(*names: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(name in shapes for name in names)


def _start(*prefixes: str) -> Callable[[Shapes], bool]:
    return lambda shapes: any(name.startswith(prefixes) for name in shapes)


def _is_lora(shapes: Shapes) -> bool:
    def belongs(name: str) -> bool:
        return any(part in name for part in _LORA_PARTS) or name.endswith(_LORA_ENDS)

    return any(part in name for name in shapes for part in _LORA_PARTS) and all(
        belongs(name) for name in shapes
    )


def _is_adapter(shapes: Shapes) -> bool:
    return not _is_wan(shapes) and any(part in name for name in shapes for part in _LORA_PARTS)


def _is_shard(shapes: Shapes) -> bool:
    blocks = any(name.startswith("blocks.") and ".self_attn." in name for name in shapes)
    return blocks and not ("patch_embedding.weight" in shapes and "head.modulation" in shapes)


def _is_wan(shapes: Shapes) -> bool:
    return "patch_embedding.weight" in shapes and "head.modulation" in shapes


def _wan_channels(*channels: int) -> Callable[[Shapes], bool]:
    return lambda shapes: (
        _is_wan(shapes) and shapes["patch_embedding.weight"][1:2] in {(n,) for n in channels}
    )


def _multitalk_trunk(shapes: Shapes) -> bool:
    spelled = "audio_proj.proj1.weight" in shapes or "multitalk_audio_proj.proj1.weight" in shapes
    return spelled and "patch_embedding.weight" in shapes


_TO_STREAM = f"; to stream, {_STUDENTS}"
_ADAPTERS = (
    Neighbour(
        "a LoRA",
        "load the student it belongs to and put the LoRA behind it with a LoRA loader",
        _is_lora,
    ),
    Neighbour(
        "an adapter in the manner of OmniAvatar (pairs of matrices beside a few full tensors)",
        "choose the Wan network that it was trained on as base: Wan2.1-T2V-1.3B or Wan2.1-T2V-14B, one file or "
        "shards, in models/diffusion_models",
        _is_adapter,
    ),
)
MULTITALK = Neighbour(
    "a model of the MultiTalk family (FlashTalk, SkyReels A2V or a merged InfiniteTalk)",
    "load it with Load Student, or behind its own image-to-video MODEL with Use Model as Student",
    _multitalk_trunk,
)
MULTITALK_AUDIO = Neighbour(
    "an InfiniteTalk or MultiTalk audio patch, without a Wan network",
    "choose it in Load Student with a Wan 2.1 image-to-video network as base, or connect core's Load Model Patch and "
    "that network's MODEL to Use Model as Student",
    _key("audio_proj.proj1.weight", "multitalk_audio_proj.proj1.weight"),
)
_WAN_RELATIVES = (
    Neighbour(
        "a Wan 2.2 S2V speech-to-video model",
        "load it with Load Diffusion Model and use core's WanSoundImageToVideo" + _TO_STREAM,
        _start("casual_audio_encoder.", "audio_injector."),
    ),
    Neighbour(
        "a HuMo model",
        "load it with Load Diffusion Model and use core's WanHuMoImageToVideo" + _TO_STREAM,
        _key("audio_proj.audio_proj_glob_1.layer.bias"),
    ),
    Neighbour(
        "a LongCat-Avatar model",
        "it is not supported; " + _STUDENTS,
        _key("blocks.0.audio_cross_attn.q_norm.weight"),
    ),
    Neighbour(
        "a SoulX-LiveAct model",
        "it is not supported; " + _STUDENTS,
        _any_with(".self_attn.memory_proj_k."),
    ),
    Neighbour(
        "a SoulX-FlashHead model",
        "it is not supported; " + _STUDENTS,
        lambda shapes: (
            "audio_proj.proj1.weight" in shapes and any(name.startswith("audio_emb.proj.") for name in shapes)
        ),
    ),
    MULTITALK,
    MULTITALK_AUDIO,
    Neighbour("a Wan VACE model", _STUDENTS, _key("vace_patch_embedding.weight")),
    Neighbour("a Wan Animate model", _STUDENTS, _start("face_adapter.")),
    Neighbour("a Wan camera-control model", _STUDENTS, _key("control_adapter.conv.weight")),
    Neighbour(
        "a Wan 2.1 network with a student's input channels but without the audio tensors",
        "a loader dropped them when it was saved, or it is one half of a pair: load the whole file, or "
        "connect its MODEL and the audio weights to Use Model as Student",
        _wan_channels(33, 65),
    ),
    Neighbour(
        "a Wan image-to-video model",
        "load it with Load Diffusion Model" + _TO_STREAM,
        lambda shapes: _is_wan(shapes) and ("img_emb.proj.0.bias" in shapes or _wan_channels(36)(shapes)),
    ),
    Neighbour(
        "a Wan text-to-video model, which hears no audio",
        "load it with Load Diffusion Model" + _TO_STREAM,
        _is_wan,
    ),
    Neighbour(
        "a part of a Wan model, one shard of several",
        "put all of them into one folder under the names they were published with, and pick any of them",
        _is_shard,
    ),
)
_COMPANIONS = (
    Neighbour(
        "a Wan VAE",
        f"load it with Load VAE; in Load Student {_STUDENTS}",
        _key("decoder.middle.0.residual.0.gamma"),
    ),
    Neighbour(
        "a tiny preview VAE (TAEHV or TAESD)",
        f"load it with Load VAE; in Load Student {_STUDENTS}",
        lambda shapes: (
            "taesd_decoder.1.weight" in shapes
            or ("decoder.1.weight" in shapes and "encoder.0.weight" in shapes)
        ),
    ),
    Neighbour(
        "a VAE of another model",
        _STUDENTS,
        _key("decoder.conv_in.weight", "first_stage_model.decoder.conv_in.weight"),
    ),
    Neighbour(
        "a T5 text encoder",
        f"load it with Load CLIP (type wan); in Load Student {_STUDENTS}",
        _key("encoder.block.0.layer.0.SelfAttention.q.weight", "token_embedding.weight"),
    ),
    Neighbour(
        "a CLIP vision model",
        f"load it with Load CLIP Vision; in Load Student {_STUDENTS}",
        _start("vision_model.", "visual.", "visual_projection."),
    ),
    Neighbour(
        "a CLIP text encoder",
        f"load it with Load CLIP; in Load Student {_STUDENTS}",
        _start("text_model.", "transformer.text_model."),
    ),
    Neighbour(
        "a wav2vec2 speech encoder",
        f"load it with Load Audio Encoder, connect it to Encode Speech; in Load Student {_STUDENTS}",
        _start("feature_extractor.conv_layers.", "wav2vec2.feature_extractor.conv_layers."),
    ),
    Neighbour(
        "a Whisper speech encoder",
        f"LiveTalk and Lip Forcing hear through wav2vec2; in Load Student {_STUDENTS}",
        _key("model.encoder.embed_positions.weight", "encoder.embed_positions.weight"),
    ),
)
_OTHERS = (
    Neighbour("a language model", _STUDENTS, _start("model.layers.", "layers.0.self_attn.")),
    Neighbour(
        "an image checkpoint (UNet, Flux or similar)",
        _STUDENTS,
        _start(
            "input_blocks.",
            "model.diffusion_model.",
            "double_blocks.",
            "joint_blocks.",
            "transformer_blocks.",
            "down_blocks.",
            "single_blocks.",
        ),
    ),
)
