"""Foreign tensor names to ours: pure functions of a mapping, which never look at the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

# Wrappers that training code and other loaders put before the names, in any order and depth.
WRAPPERS = ("generator_ema.", "generator.", "_core.", "model.", "module.", "diffusion_model.")
# Wrappers that training code puts inside the names.
INNER_WRAPPERS = ("_fsdp_wrapped_module.", "_orig_mod.")
# Names, one of which every file of a Wan network, its audio part or a patch for it has.
ANCHORS = (
    "patch_embedding.weight",
    "head.modulation",
    "blocks.0.modulation",
    "audio_proj.proj.weight",
    "audio_proj.proj1.weight",
    "audio_cond_projs.0.weight",
    "patch_embedding.lora_A.weight",
    "blocks.0.self_attn.q.lora_A.weight",
    "blocks.0.self_attn.q.lora_A.default.weight",
    "blocks.0.self_attn.q.lora_down.weight",
)
AUDIO_PARTS = ("audio_proj.", "audio_cond_projs.", "speech_encoder.")


def strip_wrappers(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Take the names out of the wrappers around a Wan network; names of other files come back as they are.

    Of `generator_ema.` and `generator.`, the averaged weights are kept and the others dropped: they are the
    same network twice. Names outside the wrapper keep their name, so that key accounting can report them.
    """
    bare = {_without_inner(name): value for name, value in tensors.items()}
    prefix = network_prefix(bare)
    if not prefix:
        return bare
    dropped = _twin_prefix(prefix)
    result = {}
    for name, value in bare.items():
        if name.startswith(prefix):
            result[name[len(prefix) :]] = value
        elif dropped is None or not name.startswith(dropped):
            result[name] = value
    return result


def network_prefix(names: Iterable[str]) -> str:
    """The wrapper of a network, such as "model.diffusion_model."; empty for a flat or foreign file."""
    present = set(names)
    prefixes = {_leading_wrappers(name) for name in present}
    scores = {prefix: sum(prefix + anchor in present for anchor in ANCHORS) for prefix in prefixes}
    found = [prefix for prefix in prefixes if scores[prefix] > 0]
    if not found:
        return ""
    return max(found, key=lambda prefix: ("generator_ema." in prefix, scores[prefix], -len(prefix)))


def split_audio(tensors: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Separate (Wan tensors, audio tensors): the second are those that ComfyUI's Wan loader does not know.

    tensors: flat names, as strip_wrappers returns them.
    """
    wan = {name: value for name, value in tensors.items() if not name.startswith(AUDIO_PARTS)}
    audio = {name: value for name, value in tensors.items() if name.startswith(AUDIO_PARTS)}
    return wan, audio


def _leading_wrappers(name: str) -> str:
    """The longest run of wrappers at the start of a name."""
    rest = name
    while rest.startswith(WRAPPERS):
        rest = next(rest[len(wrapper) :] for wrapper in WRAPPERS if rest.startswith(wrapper))
    return name[: len(name) - len(rest)]


def _without_inner(name: str) -> str:
    for wrapper in INNER_WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _twin_prefix(prefix: str) -> str | None:
    """The wrapper of the un-averaged copy beside an averaged one."""
    if "generator_ema." not in prefix:
        return None
    return prefix.replace("generator_ema.", "generator.")
