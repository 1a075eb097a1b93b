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


@pytest.mark.parametrize("blocks", [1, 4, 7])
def test_blocks_add_to_the_frame_itself(blocks):
    """With nothing to add a feature is that of the strided convolutions around its own four mel frames."""
    config = SpeechEncoderConfig(
        bins=5, width=8, hidden=12, blocks=blocks, ahead_mel=12 if blocks == 1 else 24
    )
    encoder = SpeechEncoder(config).double().requires_grad_(False)
    for block in encoder.blocks:
        block.mix.weight.zero_()
        block.mix.bias.zero_()
    mel = torch.randn(1, 160, 5, dtype=torch.float64, requires_grad=True)
    encoder(mel)[0, 20].sum().backward()
    heard = mel.grad[0].abs().sum(dim=1).nonzero().flatten()
    assert (heard.min(), heard.max()) == (20 * 4 - 4, 20 * 4 + 11)


def test_dropout_is_for_the_training_of_the_encoder_alone(encoder):
    mel = torch.randn(1, 80, 5, dtype=torch.float64)
    whole = encoder.train()(mel)
    torch.testing.assert_close(encoder(mel), whole, atol=0, rtol=0)
    for block in encoder.blocks:
        block.dropout = 0.5
    assert (encoder(mel) - whole).abs().max() > 1e-3
    torch.testing.assert_close(encoder.eval()(mel), whole, atol=0, rtol=0)
