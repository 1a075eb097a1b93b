"""Which profile a student runs with, and the sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.profile import METADATA_KEY, PROFILES, StudentProfile
from ..networks.wan import WanConfig
from .detect import Signature

# Input channels of an AudioPack network -> the student that is published with them.
KNOWN_CHANNELS = {33: "livetalk", 65: "lipforcing"}
_LOOKALIKES = {
    "livetalk": "a merged OmniAvatar or AvatarForcing looks the same: choose another profile if it is one",
    "lipforcing": "a merged OmniAvatar-LS teacher looks the same: choose another profile if it is one",
}


def choose_profile(
    metadata: Mapping[str, str], signature: Signature, *, choice: str | None = None
) -> StudentProfile:
    """The profile of a student, with `source` saying why it was taken.

    Order: the user's explicit choice (None leaves it to the file), the file's own profile in its metadata, a
    known signature. metadata: of the safetensors file. signature: of a student, from detect().

    Raises:
        ValueError: no rule applies, the name is unknown, or the profile does not fit the tensors.
    """
    if signature.config is None:
        raise ValueError(f"this is {signature.description}, which has no profile; {signature.advice}")
    own = metadata.get(METADATA_KEY)
    if choice is not None:
        return _chosen(choice, signature, overrides_file=own is not None)
    if own is not None:
        return _from_metadata(own, signature.config)
    if signature.own_speech_encoder:
        raise ValueError(
            "the student has its own speech encoder but no profile in its metadata that says how to feed "
            f"it; export it again with the metadata entry '{METADATA_KEY}'"
        )
    return _from_channels(signature)


def _chosen(choice: str, signature: Signature, *, overrides_file: bool) -> StudentProfile:
    if choice not in PROFILES:
        raise ValueError(f"there is no profile {choice!r}; choose one of {', '.join(sorted(PROFILES))}")
    if signature.own_speech_encoder and PROFILES[choice].speech.encoder != "mel":
        raise ValueError(
            f"profile {choice!r} hears through {PROFILES[choice].speech.encoder}, but the student has its "
            "own speech encoder; leave the profile to the file"
        )
    reason = "chosen by you" + (" against the file's own profile" if overrides_file else "")
    return _fitted(replace(PROFILES[choice], source=reason), signature.config)


def _from_metadata(text: str, config: WanConfig) -> StudentProfile:
    try:
        profile = StudentProfile.from_json(text)
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise ValueError(
            f"the profile in the file's metadata cannot be read ({error}); choose a profile by hand or "
            "export the file again"
        ) from error
    expected = FRAMES_PER_LATENT * profile.speech.features
    if config.audio_in != expected:
        raise ValueError(
            f"the profile in the file's metadata needs {expected} audio inputs, its audio_proj has "
            f"{config.audio_in}; export the file again"
        )
    return replace(profile, source="the file's own metadata")


def _from_channels(signature: Signature) -> StudentProfile:
    config = signature.config
    name = KNOWN_CHANNELS.get(config.in_dim)
    if name is None:
        known = ", ".join(f"{channels} ({student})" for channels, student in sorted(KNOWN_CHANNELS.items()))
        raise ValueError(
            f"no profile is known for {signature.description}: the metadata has none and known students have "
            f"{known} input channels; choose a profile ({', '.join(sorted(PROFILES))})"
        )
    reason = f"its signature: AudioPack with {config.in_dim} input channels ({_LOOKALIKES[name]})"
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
