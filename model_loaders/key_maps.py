"""Foreign tensor names to ours: pure functions of a mapping, which never look at the values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")

# Wrappers that training code and other loaders put before the names, in any order and depth.
WRAPPERS = (
    "generator_ema.",
    "generator.",
    "_core.",
    "net.",
    "base_model.",
    "model.",
    "module.",
    "state_dict.",
    "transformer.",
    "diffusion_model.",
)
# Wrappers that training code puts inside the names.
INNER_WRAPPERS = ("_fsdp_wrapped_module.", "_orig_mod.")
# Names, one of which every file of a Wan network, its audio part or a patch for it has.
ANCHORS = (
    "patch_embedding.weight",
    "head.modulation",
    "blocks.0.modulation",
    "audio_proj.proj.weight",
    "audio_proj.proj1.weight",
    "multitalk_audio_proj.proj1.weight",
    "audio_cond_projs.0.weight",
    "patch_embedding.lora_A.weight",
    "blocks.0.self_attn.q.lora_A.weight",
    "blocks.0.self_attn.q.lora_A.default.weight",
    "blocks.0.self_attn.q.lora_down.weight",
)
AUDIO_PARTS = ("audio_proj.", "audio_cond_projs.", "speech_encoder.")
# Other networks and states that training saves beside a student, always outside its wrapper.
TRAINING_PARTS = ("critic.", "fake_score.", "discriminator.", "optimizer", "scheduler.", "ema_optimizer")
# Parts of diffusers' names for a Wan network and Wan's own, in the order of replacement. Their norm2 is the affine
# norm before the text, which Wan calls norm3.
_DIFFUSERS = (
    ("condition_embedder.time_embedder.linear_1.", "time_embedding.0."),
    ("condition_embedder.time_embedder.linear_2.", "time_embedding.2."),
    ("condition_embedder.text_embedder.linear_1.", "text_embedding.0."),
    ("condition_embedder.text_embedder.linear_2.", "text_embedding.2."),
    ("condition_embedder.time_proj.", "time_projection.1."),
    ("condition_embedder.image_embedder.norm1.", "img_emb.proj.0."),
    ("condition_embedder.image_embedder.ff.net.0.proj.", "img_emb.proj.1."),
    ("condition_embedder.image_embedder.ff.net.2.", "img_emb.proj.3."),
    ("condition_embedder.image_embedder.norm2.", "img_emb.proj.4."),
    ("proj_out.", "head.head."),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".to_out.0.", ".o."),
    (".add_k_proj.", ".k_img."),
    (".add_v_proj.", ".v_img."),
    (".norm_added_k.", ".norm_k_img."),
    (".ffn.net.0.proj.", ".ffn.0."),
    (".ffn.net.2.", ".ffn.2."),
)


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


def from_diffusers(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Give a Wan network in the names of diffusers its own names; all others come back as they are.

    tensors: flat names, as strip_wrappers returns them.
    """
    if not any(".attn1.to_" in name or name.startswith("condition_embedder.") for name in tensors):
        return dict(tensors)
    return {_wan_name(name): value for name, value in tensors.items()}


def _wan_name(name: str) -> str:
    if name == "scale_shift_table":
        return "head.modulation"
    if name.startswith("blocks.") and ".norm2." in name:
        return name.replace(".norm2.", ".norm3.")
    if name.startswith("blocks.") and ".norm3." in name:
        return name.replace(".norm3.", ".norm2.")
    for theirs, ours in _DIFFUSERS:
        name = name.replace(theirs, ours)
    return name.replace(".scale_shift_table", ".modulation")


def split_training(tensors: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """Separate (the network, what training saved beside it).

    tensors: flat names of a file that had a wrapper around its network.
    """
    beside = {name: value for name, value in tensors.items() if name.startswith(TRAINING_PARTS)}
    return {name: value for name, value in tensors.items() if name not in beside}, beside


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
    before, averaged, _ = prefix.partition("generator_ema.")
    return before + "generator." if averaged else None
