"""Mel frames -> one speech feature per video frame: two strided convolutions, then residual blocks, a fixed window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEL_PER_FRAME = 4  # mel frames (10 ms) per video frame (40 ms)
_FRAME_WINDOW_MEL = 16  # mel frames under one value of the second convolution
_FRONT_AHEAD_MEL = 8  # of these, beyond the video frame's own four; the other four lie before it
_BLOCK_TAPS = 5  # video frames that a residual block spans


@dataclass(frozen=True)
class SpeechEncoderConfig:
    """Widths and look-ahead; the past is what remains of the receptive field.

    width: of a feature. hidden: of the layers before it. blocks: residual blocks at the rate of the video.
    """

    bins: int = 40
    width: int = 128
    hidden: int = 192
    blocks: int = 4
    ahead_mel: int = 24

    def __post_init__(self) -> None:
        if not 0 <= self.ahead_mel <= self.window_mel - MEL_PER_FRAME:
            raise ValueError(
                f"ahead_mel is {self.ahead_mel}; expected 0..{self.window_mel - MEL_PER_FRAME}, "
                "what the convolutions can see beyond a video frame"
            )

    @property
    def window_mel(self) -> int:
        """Mel frames that one feature depends on."""
        return _FRAME_WINDOW_MEL + self.blocks * (_BLOCK_TAPS - 1) * MEL_PER_FRAME

    @property
    def frames_ahead(self) -> list[int]:
        """Video frames that each block sees beyond the one it adds to, so that what it adds to is the frame itself."""
        total = min(
            max(0, self.ahead_mel - _FRONT_AHEAD_MEL) // MEL_PER_FRAME, self.blocks * (_BLOCK_TAPS - 1)
        )
        return [
            total * (block + 1) // self.blocks - total * block // self.blocks for block in range(self.blocks)
        ]

    @property
    def past_mel(self) -> int:
        """Mel frames before a video frame's own four."""
        return self.window_mel - MEL_PER_FRAME - self.ahead_mel


@dataclass
class SpeechState:
    """What a stream remembers: mel frames (B, bins, N) that later features still need."""

    mel: Tensor


class ResidualBlock(nn.Module):
    """A convolution over video frames and a mixing of channels, added to one of the frames that it has seen."""

    def __init__(self, width: int, *, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.dropout = 0.0  # share of its channels that a training of the encoder leaves out
        self.conv = nn.Conv1d(width, width, _BLOCK_TAPS)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x_BCA: Tensor) -> Tensor:
        """(B, width, A) -> (B, width, A - 4)."""
        hidden = F.dropout(F.gelu(self.conv(x_BCA)), self.dropout, self.training)
        seen = self.mix(hidden)
        return x_BCA[:, :, _BLOCK_TAPS - 1 - self.ahead :][:, :, : seen.shape[2]] + seen


class SpeechEncoder(nn.Module):
    """Small convolutional encoder at a total stride of four mel frames."""

    def __init__(self, config: SpeechEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.bins, config.hidden, 6, stride=2)
        self.conv2 = nn.Conv1d(config.hidden, config.hidden, 6, stride=2)
        self.blocks = nn.ModuleList(ResidualBlock(config.hidden, ahead=n) for n in config.frames_ahead)
        self.out = nn.Conv1d(config.hidden, config.width, 1)

    def init_state(self, batch: int = 1) -> SpeechState:
        """State of a stream that has heard nothing; silence before it is zeros."""
        weight = self.conv1.weight
        return SpeechState(weight.new_zeros(batch, self.config.bins, self.config.past_mel))

    def push(self, mel_BAM: Tensor, state: SpeechState) -> Tensor:
        """Hear mel frames (B, N, bins) -> the features they complete (B, A, width). The state is updated in place."""
        heard = torch.cat([state.mel, mel_BAM.transpose(1, 2)], dim=2)
        count = max(0, (heard.shape[2] - self.config.window_mel) // MEL_PER_FRAME + 1)
        state.mel = heard[:, :, count * MEL_PER_FRAME :]
        if count == 0:
            return heard.new_zeros(heard.shape[0], 0, self.config.width)
        return self._convolve(heard[:, :, : self.config.window_mel + (count - 1) * MEL_PER_FRAME])

    def forward(self, mel_BAM: Tensor) -> Tensor:
        """Whole clip: (B, 4A, bins) -> (B, A, width); silence follows its end."""
        config = self.config
        padded = F.pad(mel_BAM.transpose(1, 2), (config.past_mel, config.ahead_mel))
        return self._convolve(padded)

    def _convolve(self, mel_BMA: Tensor) -> Tensor:
        x = F.gelu(self.conv1(mel_BMA))
        x = F.gelu(self.conv2(x))
        for block in self.blocks:
            x = block(x)
        return self.out(x).transpose(1, 2)
