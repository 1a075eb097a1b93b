"""The host's AUDIO_ENCODER: is it the one a student was trained with, and its modules for our own forward."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...model_loaders.speech_file import CHINESE, ENGLISH, mistaken_encoder
from ...networks.profile import StudentProfile
from .paths import audio_encoder_path
from .progress import linked_node

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel

logger = logging.getLogger(__name__)

LOADER = "AudioEncoderLoader"
HIDDEN_STATES_BESIDE_LAYERS = {"audiopack": 2, "multitalk": 0}
"""AudioPack hears the last hidden state, the encoder's input, and every layer's output; MultiTalk the layers alone."""
ENCODERS = {"audiopack": ENGLISH, "multitalk": CHINESE}


def check_audio_encoder(encoder: AudioEncoderModel | None, profile: StudentProfile) -> None:
    """Raises ValueError, in one sentence, when the wire is missing, superfluous or of another model."""
    speech, beside = profile.speech, HIDDEN_STATES_BESIDE_LAYERS[profile.family]
    if speech.encoder == "mel":
        return
    name = ENCODERS[profile.family]
    wanted = f"{name}, a wav2vec2 with {speech.feature_slots - beside} layers of width {speech.feature_width}"
    remedy = f"load {name} with Load Audio Encoder"
    if encoder is None:
        raise ValueError(
            f"this student hears through {wanted}, which is not in its file; {remedy} and connect it"
        )
    network = encoder.model
    if not hasattr(network, "feature_extractor"):
        raise ValueError(f"got the audio encoder {type(network).__name__}, expected {wanted}; {remedy}")
    layers = network.encoder.layers
    width = layers[0].attention.embed_dim
    if (len(layers) + beside, width) != (speech.feature_slots, speech.feature_width):
        raise ValueError(
            f"got wav2vec2 with {len(layers)} layers of width {width}, expected {wanted}; {remedy}"
        )


def check_encoder_file(prompt: Mapping[str, Any] | None, node_id: str, profile: StudentProfile) -> str:
    """A line about the file that core's loader gave this node's audio_encoder; "" where there is nothing to say.

    Modules do not tell the English from the Chinese base, files mostly do. Raises ValueError for one that is another
    than the student's by its tensors; by its name alone that is a warning.
    """
    loader = linked_node(prompt, node_id, "audio_encoder", LOADER)
    path = None if loader is None else audio_encoder_path(prompt[loader]["inputs"].get("audio_encoder_name"))
    if path is None or profile.speech.encoder == "mel":
        return ""
    wanted = ENCODERS[profile.family]
    try:
        mistaken = mistaken_encoder(path, wanted)
    except ValueError:  # core reads formats that we do not
        logger.info("TalkStream cannot tell which wav2vec2 %s holds", path.name)
        return ""
    if mistaken is None:
        return ""
    text = f"{path.name} {mistaken.why}; the student {profile.name!r} was trained with {wanted}"
    if mistaken.certain:
        raise ValueError(f"{text}: choose that in Load Audio Encoder")
    text = f"{text}, and mumbles with another"
    logger.warning(text)
    return text
