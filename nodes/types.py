"""What travels on the pack's own wires: frozen descriptions, never running state.

Descriptions hold the host's patchers (MODEL, VAE, AUDIO_ENCODER) and name them in `get_models()`, so that the
host's memory tracking and its output cache see which models a wire keeps in use.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..media.video_source import Source
    from ..networks.profile import StudentProfile
    from ..samplers.guidance import Guidance
    from ..streaming.faces import FaceTrack
    from ..streaming.motion import MotionSpec
    from ..streaming.mouth_mask import MouthMask
    from ..streaming.source_latents import LatentStore
    from ..streaming.spec import StreamSpec
    from ..streaming.take import Take
    from ..streaming.video_clock import VideoClock

SpeechSocket = io.Custom("TALKSTREAM_SPEECH")
ReferenceSocket = io.Custom("TALKSTREAM_REFERENCE")
CacheSocket = io.Custom("TALKSTREAM_CACHE")
SourceSocket = io.Custom("TALKSTREAM_SOURCE")
GuidanceSocket = io.Custom("TALKSTREAM_GUIDANCE")
StreamSocket = io.Custom("TALKSTREAM_STREAM")
FramesSocket = io.Custom("TALKSTREAM_FRAMES")
FaceSocket = io.Custom("TALKSTREAM_FACE")


class HoldsModels:
    """What the host asks of a value that keeps models in use."""

    def get_models(self) -> list[Any]:
        """The host's patchers behind this description."""
        return []

    @property
    def patcher(self) -> io.Model.Type | None:
        """The first of them, or None."""
        return next(iter(self.get_models()), None)

    def is_dynamic(self) -> bool:
        """Whether any of them lives in the host's dynamic VRAM."""
        return any(model.is_dynamic() for model in self.get_models())


@dataclass(frozen=True, eq=False)
class Speech(HoldsModels):
    """A voice, not yet encoded. samples_CS: float32, any rate, any number of channels, never changed.

    voices: of several speakers, each one's own (C, S) over the whole length, of which samples are the sum;
    spoken_samples: of each, without the silence that was added.
    """

    profile: StudentProfile
    samples_CS: Tensor
    sample_rate: int
    encoder: Any  # the host's AUDIO_ENCODER, or None where the student brings its own
    window: str  # "whole" or "windows", never "auto"
    limit_seconds: float  # 0: no limit
    voices: tuple[Tensor, ...] = ()
    spoken_samples: tuple[int, ...] = ()

    def get_models(self) -> list[Any]:
        """The speech encoder's patcher."""
        return [] if self.encoder is None else [self.encoder.patcher]


@dataclass(frozen=True, eq=False)
class Reference(HoldsModels):
    """The identity picture as a latent. latent_BCTHW: (1, 16, T, H, W), normalised as the student sees it.

    T is 1, and more with the grey behind the picture that students of the MultiTalk family see. Those alone have the
    other fields: picture, (1, 3, height, width) in [-1, 1]; image, its CLIP vision tokens (1, M, C); vae, the host's
    VAE that encodes their motion frames; masks, of several speakers and the background on the grid of tokens.
    """

    latent_BCTHW: Tensor
    width: int
    height: int
    picture_BCHW: Tensor | None = None
    image_BMC: Tensor | None = None
    vae: Any = None
    masks_PL: Tensor | None = None

    def get_models(self) -> list[Any]:
        """The VAE's patcher, where the stream needs it again."""
        return [] if self.vae is None else [self.vae.patcher]


@dataclass(frozen=True, eq=False)
class SourceVideo(HoldsModels):
    """A video as a lip-sync student follows it; nothing of it is in memory.

    side: of the square face crops, in pixels. mask: what is painted anew. store: its latents, as
    far as any stream has made them.
    """

    profile: StudentProfile
    face: TrackedFace
    vae: Any
    encoding_dtype: torch.dtype
    mask: MouthMask
    side: int
    store: LatentStore

    def get_models(self) -> list[Any]:
        """The VAE that encodes it."""
        return [self.vae.patcher]


@dataclass(frozen=True)
class CacheChoice:
    """Changes to the student's KV cache; None leaves a field as trained. window counts the current chunk.

    in_main_memory, eight_bit: where and how the past is kept.
    """

    window: int | None = None
    sink: int | None = None
    sink_rule: str | None = None
    sink_offset: int | None = None
    dtype: str | None = None
    in_main_memory: bool = False
    eight_bit: bool = False


@dataclass(frozen=True, eq=False)
class GuidanceChoice:
    """How strongly text and audio pull; None leaves one as trained. negative: CONDITIONING to keep away from."""

    text: float | None = None
    audio: float | None = None
    negative: Any = None
    adaptive: bool = False


@dataclass(frozen=True, eq=False)
class Stream(HoldsModels):
    """Everything that decides the latents of one stream, and its take: those that were made already.

    guidance, negative_BMD: of a student that is guided, and the text to keep away from. masks_PL: of several speakers.
    """

    model: Any
    profile: StudentProfile
    spec: StreamSpec | MotionSpec
    speech: Speech
    reference: Reference
    text_BMD: Tensor | None
    cache: CacheChoice
    seed: int
    take: Take
    guidance: Guidance | None = None
    negative_BMD: Tensor | None = None
    source: SourceVideo | None = None  # the video that a lip-sync student follows
    masks_PL: Tensor | None = None

    def get_models(self) -> list[Any]:
        """Student, what rides along with it, the speech encoder, and the VAE of motion frames or of a video."""
        student = [self.model, *self.model.get_nested_additional_models(), *self.speech.get_models()]
        source = [] if self.source is None else self.source.get_models()
        return list(dict.fromkeys([*student, *self.reference.get_models(), *source]))


@dataclass(frozen=True)
class Pasting:
    """Faces put back into their video. enlarged: by so many of the upscale models before that.

    original_sound: the file gets the video's own sound instead of the voice.
    """

    enlarged: int
    original_sound: bool


@dataclass(frozen=True, eq=False)
class Frames(HoldsModels):
    """Pictures that can be pulled one chunk after another: a stream, the VAE that shows it, and upscale models.

    width, height: of the pictures as they are pulled; upscalers: the host's UPSCALE_MODELs in their order.
    preview_vae: a tiny decoder for the live preview alone, or None. tiny_scale: which latents tiny decoders take.
    """

    stream: Stream
    vae: Any
    decoding_dtype: torch.dtype
    exact_decoding: bool
    width: int
    height: int
    fps: Fraction
    frames: int
    upscalers: tuple[Any, ...] = ()
    preview_vae: Any = None
    tiny_scale: str = "auto"
    pasting: Pasting | None = None

    def get_models(self) -> list[Any]:
        """The stream's models and those that show it."""
        return list(dict.fromkeys([*self.stream.get_models(), *self.picture_models()]))

    def picture_models(self) -> list[Any]:
        """The VAEs and the upscale models."""
        preview = [] if self.preview_vae is None else [self.preview_vae.patcher]
        return [self.vae.patcher, *preview, *(model.patcher for model in self.upscalers)]


@dataclass(frozen=True)
class DecodedChunk:
    """One chunk of the video. pictures_FHWC: float32 in [0, 1] on the CPU; latent: as the network made it."""

    index: int
    first_frame: int
    pictures_FHWC: Tensor
    latent_BCTHW: Tensor


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A video and the face that was followed in it; nothing of the video is in memory.

    clock: which source frame and which mouth each frame of the result takes; it knows the track's shots. Frames where
    track.found_F is false pass through as they are.
    """

    source: Source
    track: FaceTrack
    clock: VideoClock
