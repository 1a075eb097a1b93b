"""The user's sound as a track of the file: own rate, own channels, encoded in step with the pictures.

AAC where it knows the rate (it plays everywhere), FLAC otherwise: MP4 carries it, browsers play it, it keeps any
rate, and it is lossless (24 bits). ALAC plays in Safari alone and Opus would change the rate to 48 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from torch import Tensor

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
BITS_PER_SAMPLE = 4  # AAC: 64 kbit/s for 16 kHz mono, 192 for 48 kHz mono, twice that for stereo at most
MOST_BITS_PER_CHANNEL = 128_000
# FFmpeg's own choice, twoloop, takes seven times as long and was 5 dB further from speech at these rates.
AAC_OPTIONS = {"aac_coder": "fast"}


@dataclass(frozen=True)
class AudioCodec:
    """How a waveform is stored: encoder, sample format, speaker layout, bits per second (0: lossless)."""

    encoder: str
    sample_format: str
    layout: str
    bit_rate: int


def choose_codec(sample_rate: int, channels: int) -> AudioCodec:
    """The codec that keeps this rate and these channels. Raises ValueError where MP4 has none."""
    if channels not in LAYOUTS:
        raise ValueError(f"the audio has {channels} channels; a video file takes 1 to 8: mix it down first")
    if not 1 <= sample_rate <= 655_350:
        raise ValueError(f"the audio's sample rate is {sample_rate}; a video file takes 1 to 655350")
    if sample_rate in AAC_RATES and channels <= 6:
        bits = min(MOST_BITS_PER_CHANNEL, BITS_PER_SAMPLE * sample_rate) * channels
        return AudioCodec("aac", "fltp", LAYOUTS[channels], bits)
    return AudioCodec("flac", "s32", LAYOUTS[channels], 0)


class AudioTrack:
    """One waveform on its way into a container. Holds a reference to the samples, never a copy of the clip."""

    def __init__(self, container: OutputContainer, clip_CS: Tensor, sample_rate: int) -> None:
        self.codec = choose_codec(sample_rate, int(clip_CS.shape[0]))
        self.sample_rate = sample_rate
        self._clip_CS = clip_CS
        self._cursor = 0
        self._stream: AudioStream = container.add_stream(
            self.codec.encoder, rate=sample_rate, layout=self.codec.layout
        )
        self._stream.codec_context.format = self.codec.sample_format
        if self.codec.bit_rate:
            self._stream.codec_context.bit_rate = self.codec.bit_rate
        if self.codec.encoder == "aac":
            self._stream.codec_context.options = AAC_OPTIONS

    @property
    def samples(self) -> int:
        """Samples per channel of the whole clip."""
        return int(self._clip_CS.shape[-1])

    def encode_until(self, sample: int) -> Iterator[Packet]:
        """Packets of the full encoder frames that end at or before `sample`."""
        size = self._stream.codec_context.frame_size or 1024
        while self._cursor + size <= min(sample, self.samples):
            yield from self._encode(size)

    def encode_rest(self, stop: int) -> Iterator[Packet]:
        """The last packets: everything up to `stop`, then what the encoder held back."""
        yield from self.encode_until(stop)
        rest = min(stop, self.samples) - self._cursor
        if rest > 0:
            yield from self._encode(rest)
        yield from self._stream.encode(None)

    def _encode(self, size: int) -> Iterator[Packet]:
        block = self._clip_CS[:, self._cursor : self._cursor + size].detach().cpu().float().numpy()
        frame = av.AudioFrame.from_ndarray(
            self._stored(block), format=self.codec.sample_format, layout=self.codec.layout
        )
        frame.sample_rate = self.sample_rate
        frame.pts, frame.time_base = self._cursor, Fraction(1, self.sample_rate)
        self._cursor += size
        yield from self._stream.encode(frame)

    def _stored(self, block_CS: np.ndarray) -> np.ndarray:
        """(C, S) float32 as the encoder takes it: planar floats, or interleaved integers with 24 bits."""
        if self.codec.sample_format == "fltp":
            return np.ascontiguousarray(block_CS)
        levels = np.clip(np.rint(block_CS.astype(np.float64) * 2**23), -(2**23), 2**23 - 1)
        return np.ascontiguousarray((levels.astype(np.int32) << 8).T.reshape(1, -1))
