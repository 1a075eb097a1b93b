"""The host's AUDIO_ENCODER: is it the one a student was trained with, and its modules for our own forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...networks.profile import StudentProfile

if TYPE_CHECKING:
    from comfy.audio_encoders.audio_encoders import AudioEncoderModel

HIDDEN_STATES_BESIDE_LAYERS = {"audiopack": 2, "multitalk": 0}
"""AudioPack hears the last hidden state, the encoder's input, and every layer's output; MultiTalk the layers alone."""
ENCODERS = {"audiopack": "wav2vec2-base-960h", "multitalk": "chinese-wav2vec2-base"}


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
