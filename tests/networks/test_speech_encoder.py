"""Speech encoder: streamed equals whole, look-ahead and past exactly as promised."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.speech_encoder import SpeechEncoder, SpeechEncoderConfig

CONFIG = SpeechEncoderConfig(bins=5, width=8, hidden=12, blocks=2, ahead_mel=12)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SpeechEncoder(CONFIG).double().requires_grad_(False)


@pytest.mark.parametrize("piece", [1, 3, 4, 50])
def test_streamed_equals_whole(encoder, piece):
    mel = torch.randn(2, 80, 5, dtype=torch.float64)
    state = encoder.init_state(2)
    padded = torch.cat([mel, mel.new_zeros(2, CONFIG.ahead_mel, 5)], dim=1)
    parts = [encoder.push(part, state) for part in padded.split(piece, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), encoder(mel), atol=1e-12, rtol=0)


def test_a_feature_depends_on_its_window_only(encoder):
    mel = torch.randn(1, 120, 5, dtype=torch.float64)
    whole = encoder(mel)
    frame = 15
    first, last = frame * 4 - CONFIG.past_mel, frame * 4 + 3 + CONFIG.ahead_mel
    for index, seen in ((first - 1, False), (first, True), (last, True), (last + 1, False)):
        changed = mel.clone()
        changed[:, index] += 1.0
        gap = (encoder(changed) - whole)[0, frame].abs().max().item()
        assert (gap > 1e-9) == seen, f"mel frame {index}"


def test_sessions_are_independent(encoder):
    mel = torch.randn(1, 60, 5, dtype=torch.float64)
    one, other = encoder.init_state(), encoder.init_state()
    parts = []
    for part in mel.split(7, dim=1):
        parts.append(encoder.push(part, one))
        encoder.push(torch.randn_like(part), other)
    whole = encoder(mel)
    done = torch.cat(parts, dim=1)
    torch.testing.assert_close(done, whole[:, : done.shape[1]], atol=1e-12, rtol=0)


def test_refuses_a_look_ahead_beyond_its_window():
    with pytest.raises(ValueError, match="ahead_mel is 45"):
        SpeechEncoderConfig(blocks=2, ahead_mel=45)
