"""Mel spectrogram with per-channel energy normalisation, the same whole or in pieces.

One mel frame per hop; its window ends where its hop ends, so a frame never looks ahead. The level is followed
causally (librosa.pcen with its carried filter state), never taken from the whole clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MelSettings:
    """Lengths in samples at sample_rate; the pcen numbers are librosa.pcen's arguments."""

    sample_rate: int = 16000
    bins: int = 40
    window_samples: int = 400
    hop_samples: int = 160
    lowest_hz: float = 60.0
    highest_hz: float = 7600.0
    pcen_gain: float = 0.95
    pcen_bias: float = 1.0
    pcen_power: float = 0.4
    pcen_seconds: float = 1.5
    pcen_eps: float = 0.1

    def __post_init__(self) -> None:
        if self.window_samples < self.hop_samples:
            raise ValueError(
                f"window of {self.window_samples} samples is shorter than the hop of {self.hop_samples}; "
                "expected window_samples >= hop_samples"
            )


# Level the follower starts from: about that of speech at -26 dB below full scale.
_START_LEVEL = 1.0


@dataclass
class MelState:
    """What a stream remembers: samples not yet used up, and the level follower's state, (bins, 1)."""

    samples: np.ndarray
    level: np.ndarray


class MelFrontEnd:
    """Waveform -> normalised mel frames. Holds the filter bank only; a stream's state belongs to its caller."""

    def __init__(self, settings: MelSettings) -> None:
        import librosa  # slow to import

        self.settings = settings
        self._window = np.hanning(settings.window_samples + 1)[:-1].astype(np.float32)
        self._bank = librosa.filters.mel(
            sr=settings.sample_rate, n_fft=_fft_samples(settings), n_mels=settings.bins,
            fmin=settings.lowest_hz, fmax=settings.highest_hz, norm=None,
        ).astype(np.float64)  # fmt: skip

    def init_state(self) -> MelState:
        """State of a stream that has heard nothing: silence before its first sample."""
        s = self.settings
        before = np.zeros(s.window_samples - s.hop_samples, np.float32)
        level = np.full((s.bins, 1), (1 - self._follow()) * _START_LEVEL)
        return MelState(before, level)

    def push(self, samples: np.ndarray, state: MelState) -> np.ndarray:
        """Hear more samples (S,) in [-1, 1] -> the mel frames they complete, (frames, bins) float32, >= 0.

        The state is updated in place. Raises ValueError for samples that are not one-dimensional.
        """
        if samples.ndim != 1:
            raise ValueError(
                f"got samples of shape {samples.shape}; expected mono (S,): mix the channels first"
            )
        s = self.settings
        heard = np.concatenate([state.samples, samples.astype(np.float32, copy=False)])
        count = max(0, (len(heard) - s.window_samples) // s.hop_samples + 1)
        state.samples = heard[count * s.hop_samples :]
        if count == 0:
            return np.zeros((0, s.bins), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(heard, s.window_samples)[:: s.hop_samples][:count]
        spectrum = np.abs(np.fft.rfft(windows * self._window, _fft_samples(s), axis=1))
        mel = np.einsum("ft,mf->mt", spectrum.T.astype(np.float64), self._bank)
        return self._normalise(mel, state).T.astype(np.float32)

    def whole(self, samples: np.ndarray) -> np.ndarray:
        """A whole clip (S,) -> (S // hop, bins)."""
        return self.push(samples, self.init_state())

    def _follow(self) -> float:
        """Coefficient of the level follower, as librosa derives it from the time constant."""
        frames = self.settings.pcen_seconds * self.settings.sample_rate / self.settings.hop_samples
        return (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)

    def _normalise(self, mel: np.ndarray, state: MelState) -> np.ndarray:
        import librosa

        s = self.settings
        output, state.level = librosa.pcen(
            mel, sr=s.sample_rate, hop_length=s.hop_samples, gain=s.pcen_gain, bias=s.pcen_bias,
            power=s.pcen_power, b=self._follow(), eps=s.pcen_eps, zi=state.level, return_zf=True,
        )  # fmt: skip
        return output


def _fft_samples(settings: MelSettings) -> int:
    """Smallest power of two that holds the window."""
    return 1 << (settings.window_samples - 1).bit_length()
