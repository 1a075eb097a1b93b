"""Model Doctor: what a file is, whether it is whole, what is missing, what to get and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from ..networks.causal_vae import CausalVAE, VAEConfig
from ..networks.memory_plan import MemoryPlan, cache_bytes, decoder_bytes
from ..networks.profile import StudentProfile
from ..networks.wan import WanConfig
from .accounting import account, expected_shapes
from .build import check_speech_encoder
from .companions import STUDENTS, UMT5, WAN_BY_WIDTH, WAN_I2V, WAN_VAE, beside
from .contents import Contents, read_contents
from .detect import AUDIOPACK, AUDIOPACK_AUDIO, Signature, detect
from .multitalk import is_multitalk, open_multitalk
from .neighbours import MULTITALK_AUDIO
from .profile import choose_profile
from .sentence import check_sentence, describe_sentence, split_sentence

_NAMES_SHOWN = 12
_BYTES_PER_GB = 1e9
_PIXELS_PER_LATENT, _BF16_BYTES, _WAN_VAE_WIDTH = 8, 2, 96


def examine(path: str | Path, *, base: str | Path | None = None) -> str:
    """Lines about a model file; only headers are read. What goes wrong is part of the answer, never raised.

    base: the Wan network below an adapter, where one was chosen.
    """
    try:
        contents = read_contents(path, base=base)
        signature = detect(contents.shapes)
    except (ValueError, OSError) as error:
        return _lines(f"verdict: cannot be read: {error}", *_get_instead())
    head = _what(contents, signature)
    if is_multitalk(contents.shapes):
        return _lines(*head, *_multitalk(path, contents, base=base))
    if signature.family == AUDIOPACK and signature.config is not None:
        return _lines(*head, *_student(contents, signature))
    if contents.form == "adapter":
        return _lines(*head, *_adapter(contents))
    if signature.family == AUDIOPACK_AUDIO:
        return _lines(*head, f"verdict: half a student; {signature.advice}")
    return _lines(*head, f"verdict: not a student; {signature.advice}", *_get_instead())


def _what(contents: Contents, signature: Signature) -> list[str]:
    checkpoint = contents.tensors.checkpoint
    dtypes: dict[str, int] = {}
    for header in checkpoint.tensors.values():
        dtypes[header.dtype] = dtypes.get(header.dtype, 0) + 1
    kinds = ", ".join(f"{count} in {dtype}" for dtype, count in sorted(dtypes.items(), key=lambda i: -i[1]))
    size = checkpoint.size_bytes / _BYTES_PER_GB
    return [
        f"file: {contents.path}",
        f"it is {signature.description}",
        f"holds {len(checkpoint.tensors)} tensors, {size:.2f} GB ({kinds})",
        *(f"note: {note}" for note in contents.notes),
    ]


def _student(contents: Contents, signature: Signature) -> list[str]:
    """Accounting first, then profile, then what belongs beside it."""
    tensors, sentence = split_sentence(contents.tensors)
    own = {name: shape for name, shape in tensors.shapes.items() if not name.startswith("speech_encoder.")}
    report = account(own, expected_shapes(signature.config), quantised=signature.quantised)
    if not report.complete:
        return [
            f"verdict: {report.sentence()}",
            *_listed("missing", report.missing),
            *_listed("unknown", report.unexpected),
            *_listed("of another size", [name for name, _, _ in report.reshaped]),
        ]
    try:
        profile = choose_profile(contents.metadata, signature, form=contents.form)
        check_speech_encoder(contents.shapes, profile)
        check_sentence(sentence, signature.config)
    except ValueError as error:
        return [f"verdict: whole, but {error}"]
    verdict = (
        f"loads but does not stream: {profile.offline}" if profile.offline else "a whole student, streams"
    )
    return [
        f"verdict: {verdict}",
        f"profile: {profile.name}: {profile.source}",
        f"licence of the weights: {profile.licence or 'not told'}",
        *([] if profile.offline else _memory(contents, signature.config, profile)),
        *([] if sentence is None else [describe_sentence(sentence, contents.metadata)]),
        *(f"needs: {source.line()}" for source in beside(profile.name) if sentence is None or source != UMT5),
    ]


def _memory(contents: Contents, config: WanConfig, profile: StudentProfile) -> list[str]:
    """What a run at the trained size holds: weights as stored, KV cache and the full VAE's frames in bf16."""
    if WAN_VAE not in beside(profile.name):
        return []
    with torch.device("meta"):
        vae = CausalVAE(VAEConfig(dim=_WAN_VAE_WIDTH))
    latent = {
        "latent_height": profile.height // _PIXELS_PER_LATENT,
        "latent_width": profile.width // _PIXELS_PER_LATENT,
        "itemsize": _BF16_BYTES,
    }
    plan = MemoryPlan(
        weights=contents.tensors.checkpoint.size_bytes,
        cache=cache_bytes(profile.cache_spec, layers=config.num_layers, dim=config.dim, **latent),
        decoder=decoder_bytes(vae, **latent),
    )
    return [f"at {profile.width}x{profile.height}: {plan}"]


def _multitalk(path: str | Path, contents: Contents, *, base: str | Path | None) -> list[str]:
    """A student of the MultiTalk family; its audio part alone needs its network as base."""
    apart = "patch_embedding.weight" not in contents.shapes
    if apart and base is None:
        return [f"verdict: half a student; {MULTITALK_AUDIO.advice}", f"needs: {WAN_I2V.line()}"]
    try:
        student = open_multitalk(base, audio=path) if apart else open_multitalk(path)
    except (ValueError, OSError) as error:
        return [f"verdict: {error}"]
    profile = student.profile
    return [
        "verdict: a whole student, streams",
        f"profile: {profile.name}: {profile.source}",
        f"licence of the weights: {profile.licence or 'not told'}",
        *(f"needs: {source.line()}" for source in beside(profile.name) if not (apart and source is WAN_I2V)),
    ]


def _adapter(contents: Contents) -> list[str]:
    """Which network an adapter belongs to, by the width of its matrices."""
    shapes: Mapping[str, tuple[int, ...]] = contents.shapes
    widths = {shape[0] for name, shape in shapes.items() if ".self_attn." in name and ".lora_B." in name}
    source = next((WAN_BY_WIDTH[width] for width in sorted(widths) if width in WAN_BY_WIDTH), None)
    answer = ["verdict: an adapter without its network; choose that as base in Load Student"]
    return [*answer, f"needs: {source.line()}"] if source is not None else answer


def _get_instead() -> list[str]:
    return [f"a student to get: {source.line()}" for source in STUDENTS]


def _listed(kind: str, names: list[str] | tuple[str, ...]) -> list[str]:
    more = len(names) - _NAMES_SHOWN
    return [
        *(f"{kind}: {name}" for name in names[:_NAMES_SHOWN]),
        *([f"{kind}: and {more} more"] if more > 0 else []),
    ]


def _lines(*lines: str) -> str:
    return "\n".join(lines)
