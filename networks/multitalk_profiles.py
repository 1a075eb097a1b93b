"""Profiles of the MultiTalk family: SoulX-FlashTalk, InfiniteTalk, EchoTorrent."""

from __future__ import annotations

from dataclasses import replace

from .profile import SpeechProfile, StudentProfile

CHINESE_WAV2VEC2 = SpeechProfile(
    encoder="wav2vec2",
    feature_slots=12,
    feature_width=768,
    prefix_copies=0,
    past_seconds=6.68,
    ahead_seconds=0.0,
    uncovered_frames=0,
    window_frames=5,
    loudness_lufs=-23.0,
)
"""chinese-wav2vec2-base, hidden states 1 to 12; eight seconds of voice end with a FlashTalk chunk of 33 frames."""

FLASHTALK = StudentProfile(
    name="flashtalk",
    family="multitalk",
    speech=CHINESE_WAV2VEC2,
    sigmas=(1.0, 0.9375, 5 * 0.5 / (1 + 4 * 0.5), 0.625, 0.0),
    fps_num=25,
    width=448,
    height=768,
    chunk=9,
    history=0,
    sink=0,
    clamp_first_latent=False,
    first_mask_bit=1,
    later_mask_bit=0,
    x0_dtype="float32",
    discarded_first_frames=5,
    motion_frames=5,
    colour_match=1.0,
    condition_latents=9,
    text_rows=512,
    licence="Apache-2.0",
)

INFINITETALK = StudentProfile(
    name="infinitetalk",
    family="multitalk",
    speech=replace(CHINESE_WAV2VEC2, past_seconds=5.0, ahead_seconds=0.08, tail="mirror"),
    sigmas=tuple(7 * s / (1 + 6 * s) for s in ((1000 - 999 * i / 39) / 1000 for i in range(40))) + (0.0,),
    fps_num=25,
    width=640,
    height=640,
    chunk=21,
    history=0,
    sink=0,
    clamp_first_latent=False,
    first_mask_bit=1,
    later_mask_bit=0,
    x0_dtype="float32",
    motion_frames=9,
    sampler="euler",
    text_guidance=5.0,
    audio_guidance=4.0,
    colour_match=1.0,
    condition_latents=21,
    text_rows=512,
    licence="Apache-2.0",
)

ECHOTORRENT = StudentProfile(
    name="echotorrent",
    family="multitalk",
    # Windows of a chunk are not cut at its end, so that a chunk hears the next two frames as in a whole clip.
    speech=replace(CHINESE_WAV2VEC2, ahead_seconds=0.08),
    # The paper says four evaluations, not which: FlashTalk's and the Self-Forcing family's list.
    sigmas=FLASHTALK.sigmas,
    # Not stated; the family's rate, which its speech features are made for.
    fps_num=25,
    width=720,
    height=400,
    chunk=4,
    # "Staggered, every other layer" leaves open which: the first layer is causal, so that the first attention
    # already sees the past. Causal layers hold the 12 latents that the paper names.
    history=(12, 0),
    # Not stated; one latent is what the reference image is, so that replacing it changes its source alone.
    sink=1,
    # "Rolling RoPE" is not spelt out: directly before the oldest latent in sight, so that distances stay as trained.
    sink_rule="before_window",
    sink_source="reference_then_first_generated",
    cache_mode="per_step",
    # Not stated; the sink stands for a finished picture.
    context_timestep=0.0,
    # Not stated; InfiniteTalk imposes pictures only where it has motion frames, and there are none here.
    clamp_first_latent=False,
    first_mask_bit=1,
    later_mask_bit=0,
    x0_dtype="float32",
    # The clip that InfiniteTalk was trained with, 81 frames; later latents repeat its last.
    condition_latents=21,
    text_rows=512,
    licence="no weights are public",
)

MULTITALK_PROFILES: dict[str, StudentProfile] = {
    profile.name: profile for profile in (FLASHTALK, INFINITETALK, ECHOTORRENT)
}
