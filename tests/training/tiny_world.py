"""Random stand-ins for encoded clips and tiny networks, for tests of the training stages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from talkstream.networks.cache_spec import CacheSpec
from talkstream.networks.speech_encoder import SpeechEncoderConfig
from talkstream.networks.wan import WanConfig
from talkstream.training.data import LatentBank
from talkstream.training.student import TrainableStudent

LATENTS = 15
NETWORK = WanConfig(
    dim=32, in_dim=33, ffn_dim=48, num_heads=1, num_layers=4, text_dim=24, audio_in=4 * 8, audio_hidden=8
)
LIPSYNC_NETWORK = replace(NETWORK, in_dim=65)
SPEECH = SpeechEncoderConfig(bins=6, width=8)
CACHE = CacheSpec(chunk=3, sink=3, history=(3,), sink_rule="before_window", steps=2)
SIGMAS = (1.0, 0.833333, 0.0)
ECHO_SIGMAS = (1.0, 0.833333, 0.5, 0.1, 0.0)
ECHO_CACHE = CacheSpec(
    chunk=4, sink=1, history=(12, 0), sink_rule="before_window", sink_source="reference_then_first_generated",
    mode="per_step", steps=4,
)  # fmt: skip


def random_bank(clips: int, *, seed: int = 0, lip_sync: bool = False) -> LatentBank:
    random = np.random.default_rng(seed)
    frames = 4 * LATENTS - 3
    size = (clips, 16, LATENTS, 4, 4)
    bank = LatentBank(
        random.standard_normal(size).astype(np.float16),
        random.random((clips, 2, 4 * frames, SPEECH.bins)).astype(np.float16),
        random.random((clips, frames, 5)).astype(np.float32),
    )
    if not lip_sync:
        return bank
    source, masked = (random.standard_normal(size).astype(np.float16) for _ in range(2))
    return replace(bank, source=source, masked=masked)


def random_student(seed: int = 0, *, network: WanConfig = NETWORK) -> TrainableStudent:
    """A student whose every weight is random, so that all paths carry a signal."""
    student = TrainableStudent(network, SPEECH, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return student


def flat_state(state: dict[str, Any]) -> dict[str, Any]:
    """A stage's nested state as one mapping from dotted names to tensors and numbers."""
    flat: dict[str, Any] = {}
    for name, value in state.items():
        if isinstance(value, list):
            value = dict(enumerate(value))
        if hasattr(value, "items"):
            flat |= {f"{name}.{key}": part for key, part in flat_state(value).items()}
        else:
            flat[name] = value
    return flat
