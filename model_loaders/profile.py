"""Which profile a student runs with, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.profile import METADATA_KEY, PROFILES, StudentProfile
from ..networks.wan import WanConfig
from .detect import Signature

# Family and input channels -> the students that are published with them, the one to take without a choice first.
KNOWN_CHANNELS = {
    ("audiopack", 33): ("livetalk", "avatarforcing", "omniavatar"),
    ("audiopack", 65): ("lipforcing", "omniavatar_ls"),
}
# How a file is stored tells some of them apart: the others are published whole.
_UNUSUAL_FORMS = {
    ("unmerged", 33): ("avatarforcing", "unmerged adapters of rank 128, as AvatarForcing is published"),
    ("adapter", 33): ("omniavatar", "an adapter over Wan, as OmniAvatar is published"),
    ("adapter", 65): ("omniavatar_ls", "an adapter over Wan, as OmniAvatar-LS is published"),
}


def choose_profile(
    metadata: Mapping[str, str], signature: Signature, *, form: str = "plain", choice: str | None = None
) -> StudentProfile:
    """The profile of a student, with `source` saying why it was taken.

    Order: the file's own profile in its metadata; else what its signature says; else, among students whose tensors
    look alike, the user's choice. No rule overrules one before it: a choice against the file is refused.

    metadata: of the safetensors file. signature: of a student, from detect(). form: of its contents ("plain",
    "unmerged", "adapter"). choice: name of a profile, None to leave it to the file.

    Raises:
        ValueError: no rule applies, the name is unknown, or the profile does not fit the tensors.
    """
    if signature.config is None:
        raise ValueError(f"this is {signature.description}, which has no profile; {signature.advice}")
    if choice is not None and choice not in PROFILES:
        raise ValueError(f"there is no profile {choice!r}; choose one of {', '.join(sorted(PROFILES))}")
    own = metadata.get(METADATA_KEY)
    if own is not None:
        return _from_metadata(own, signature.config, choice=choice)
    if signature.own_speech_encoder:
        raise ValueError(
            "the student has its own speech encoder but no profile in its metadata that says how to feed "
            f"it; export it again with the metadata entry '{METADATA_KEY}'"
        )
    if choice is None:
        return _from_signature(signature, form)
    return _chosen(choice, signature)


def _chosen(choice: str, signature: Signature) -> StudentProfile:
    """A choice among look-alikes; any for a number of channels that no known student has."""
    channels = signature.config.in_dim
    known = KNOWN_CHANNELS.get((signature.family, channels))
    if known is not None and choice not in known:
        raise ValueError(
            f"profile {choice!r} does not fit {signature.description}; its {channels} input channels are those of "
            f"{', '.join(known)}: choose one of them or auto"
        )
    return _fitted(replace(PROFILES[choice], source="chosen by you"), signature.config)


def read_own_profile(text: str, *, choice: str | None) -> StudentProfile:
    """The profile in a file's metadata. Raises ValueError where it cannot be read or the user chose another one."""
    try:
        profile = StudentProfile.from_json(text)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"the profile in the file's metadata cannot be read ({error}); choose a profile by hand or "
            "export the file again"
        ) from error
    if choice is not None and choice != profile.name:
        raise ValueError(
            f"the file says by its metadata that it is {profile.name!r}, not {choice!r}; set profile to auto"
        )
    return replace(profile, source="the file's own metadata")


def _from_metadata(text: str, config: WanConfig, *, choice: str | None) -> StudentProfile:
    profile = read_own_profile(text, choice=choice)
    expected = FRAMES_PER_LATENT * profile.speech.features
    if config.audio_in != expected:
        raise ValueError(
            f"the profile in the file's metadata needs {expected} audio inputs, its audio_proj has "
            f"{config.audio_in}; export the file again"
        )
    return profile


def _from_signature(signature: Signature, form: str) -> StudentProfile:
    config = signature.config
    alike = KNOWN_CHANNELS.get((signature.family, config.in_dim))
    if alike is None:
        known = ", ".join(f"{channels} ({names[0]})" for (_, channels), names in KNOWN_CHANNELS.items())
        raise ValueError(
            f"no profile is known for {signature.description}: the metadata has none and known students have "
            f"{known} input channels; choose a profile ({', '.join(sorted(PROFILES))})"
        )
    reason = f"AudioPack with {config.in_dim} input channels"
    name, how = _UNUSUAL_FORMS.get((form, config.in_dim), (alike[0], reason))
    others = ", ".join(other for other in alike if other != name)
    reason = f"its signature: {how} (the tensors of {others} look the same: choose it if it is one)"
    return _fitted(replace(PROFILES[name], source=reason), config)


def _fitted(profile: StudentProfile, config: WanConfig) -> StudentProfile:
    """The profile with the feature width of the tensors. Raises ValueError where its layers do not fit."""
    speech = profile.speech
    width, rest = divmod(config.audio_in, FRAMES_PER_LATENT * speech.feature_slots)
    if rest:
        raise ValueError(
            f"profile {profile.name!r} stacks {FRAMES_PER_LATENT} frames of {speech.feature_slots} layers of "
            f"{speech.encoder}, but {config.audio_in} audio inputs are no multiple of their product; choose "
            "another profile"
        )
    return replace(profile, speech=replace(speech, feature_width=width))
