"""Sample, frame and latent counts by exact integer arithmetic.

A frame rate is a fraction fps_num/fps_den, a sample rate an integer; nothing here touches a float, so a clip
of ten hours is as exact as one of ten frames. Every rounding is to the nearest, halves upwards.
"""

from __future__ import annotations

from math import gcd

# Wan's video codec: frame 0 alone becomes latent 0, then every four frames one latent.
FRAMES_PER_LATENT = 4


def frame_count(samples: int, sample_rate: int, *, fps_num: int, fps_den: int = 1) -> int:
    """Video frames of a clip with `samples` samples: the nearest whole number, at least one."""
    _check_rates(sample_rate, fps_num, fps_den)
    if samples < 0:
        raise ValueError(f"a clip cannot have {samples} samples; expected 0 or more")
    return max(1, (2 * samples * fps_num + sample_rate * fps_den) // (2 * sample_rate * fps_den))


def sample_at_frame(frame: int, sample_rate: int, *, fps_num: int, fps_den: int = 1) -> int:
    """Index of the sample that plays when frame `frame` appears; frame may be negative."""
    _check_rates(sample_rate, fps_num, fps_den)
    return (2 * frame * sample_rate * fps_den + fps_num) // (2 * fps_num)


def latents_for_frames(frames: int) -> int:
    """Fewest latents that hold `frames` video frames: 1 -> 1, 2..5 -> 2, 6..9 -> 3."""
    if frames < 1:
        raise ValueError(f"got {frames} frames; a clip has at least one")
    return (frames + FRAMES_PER_LATENT - 2) // FRAMES_PER_LATENT + 1


def frames_in_latents(latents: int) -> int:
    """Video frames of the first `latents` latents: 4 * latents - 3, and 0 for none."""
    if latents < 0:
        raise ValueError(f"got {latents} latents; expected 0 or more")
    return max(0, FRAMES_PER_LATENT * latents - (FRAMES_PER_LATENT - 1))


def latent_frames(first_latent: int, latents: int) -> range:
    """Video frames made from `latents` latents starting at `first_latent` (latent 0 is frame 0 alone)."""
    return range(frames_in_latents(first_latent), frames_in_latents(first_latent + latents))


def resampled_length(samples: int, from_rate: int, to_rate: int) -> int:
    """Samples after resampling: rounded up, so that no sound is lost."""
    return -(-samples * to_rate // from_rate)


def common_block(from_rate: int, to_rate: int) -> tuple[int, int]:
    """Shortest stretch that is a whole number of samples at both rates: (44100, 16000) -> (441, 160)."""
    divisor = gcd(from_rate, to_rate)
    return from_rate // divisor, to_rate // divisor


def _check_rates(sample_rate: int, fps_num: int, fps_den: int) -> None:
    for name, value in (("sample rate", sample_rate), ("fps_num", fps_num), ("fps_den", fps_den)):
        if value <= 0:
            raise ValueError(f"{name} is {value}; expected a positive whole number")
