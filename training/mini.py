"""TalkStream Mini: its sizes and its profile."""

from __future__ import annotations

from dataclasses import asdict, replace

from ..audio.mel import MelSettings
from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.profile import MelProfile, SpeechProfile, StudentProfile
from ..networks.speech_encoder import SpeechEncoderConfig
from ..networks.wan import WanConfig

MEL = MelSettings()
SPEECH = SpeechEncoderConfig(bins=MEL.bins, width=128, hidden=192, blocks=6, ahead_mel=24)
NETWORK = WanConfig(
    dim=256, in_dim=33, ffn_dim=1024, num_heads=2, num_layers=6, text_dim=4096,
    audio_in=FRAMES_PER_LATENT * SPEECH.width,
)  # fmt: skip
SIGMAS = (1.0, 0.833333, 0.5, 0.2, 0.0)
SIDE = 128


def mini_profile() -> StudentProfile:
    """What a runner must know about the Mini and its tensors do not say."""
    hop_seconds = MEL.hop_samples / MEL.sample_rate
    return StudentProfile(
        name="talkstream_mini",
        speech=SpeechProfile(
            encoder="mel", feature_slots=1, feature_width=SPEECH.width, prefix_copies=3,
            past_seconds=SPEECH.past_mel * hop_seconds, ahead_seconds=SPEECH.ahead_mel * hop_seconds,
            mel=MelProfile(**asdict(MEL)),
        ),
        sigmas=SIGMAS, fps_num=25, width=SIDE, height=SIDE, chunk=3, history=3, sink=3,
        sink_rule="before_window", text="null", licence="Apache-2.0", source="trained by training/recipes/distil.yaml",
    )  # fmt: skip


def with_cache(
    profile: StudentProfile, *, sink: int | None, history: tuple[int, ...] | None
) -> StudentProfile:
    """The profile of a student that has another sink or history than its form's; None is the form's."""
    return replace(
        profile,
        sink=profile.sink if sink is None else sink,
        history=profile.history if history is None else history,
    )
