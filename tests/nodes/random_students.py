"""Students and a VAE with random weights in the host's hands, and running streams of them, without any file.

What a run hears, reads and follows is random too: audio tokens, text rows, CLIP vision tokens, latents of portrait
and video. The network, its cache, its session and its decoder are those that the nodes open.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import comfy.model_management
import comfy.sd
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from talkstream.model_loaders.detect import read_config
from talkstream.model_loaders.key_maps import split_audio
from talkstream.model_loaders.multitalk import is_audio, read_multitalk_config
from talkstream.networks.profile import StudentProfile
from talkstream.networks.wan import WanConfig
from talkstream.nodes.host import memory, multitalk_student, student
from talkstream.nodes.host.decoders import open_decoder
from talkstream.nodes.host.graft import HostNetwork, attach, audio_modules, profile_of
from talkstream.nodes.host.multitalk import HostSpeakerNetwork, attach_audio, audio_part
from talkstream.nodes.host.picture_codec import HostCodec
from talkstream.nodes.host.quantised import with_sizes
from talkstream.nodes.host.vae import decoding_dtype
from talkstream.nodes.picturing import ChunkDecoder, Decoder
from talkstream.samplers.noise import SeededNoise
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.motion import MotionSpec
from talkstream.streaming.motion_pictures import ChunkPictures
from talkstream.streaming.motion_session import MotionSession
from talkstream.streaming.reference import ClipConditioning, Conditioning, ReferenceLatents
from talkstream.streaming.running import LATENT_CHANNELS, RunningStream
from talkstream.streaming.session import StreamSession
from talkstream.streaming.source_latents import SourceConditioning
from talkstream.streaming.spec import StreamSpec
from talkstream.tests.fakes import random_tensors
from talkstream.tests.layouts import Layout, wan_vae

RATE = 16000
PIXELS_PER_LATENT = 8
VIDEO_CHANNELS = 65
TEXT_ROWS, VISION_ROWS = 512, 257  # as umT5-XXL and CLIP vision give them

Timed = Callable[[], AbstractContextManager[None]]
"""Made anew and entered around the work that keeps a stream's past."""


def random_student(layout: Layout, profile: StudentProfile, *, dtype: torch.dtype) -> ModelPatcher:
    """A MODEL that streams, of a published file's tensors. Its weights are drawn on the host's device."""
    device = comfy.model_management.get_torch_device()
    tensors = random_tensors(layout, dtype=dtype, device=device)
    if profile.family == "multitalk":
        config = read_multitalk_config(layout)
        audio = {name: tensors.pop(name) for name in layout if is_audio(name)}
        network = host_network(tensors, config, dtype=dtype)
        return attach_audio(network, profile=profile, audio=multitalk_student.audio_patcher(audio, config))
    wan, audio = split_audio(tensors)
    del tensors
    network = host_network(wan, read_config(layout), dtype=dtype)
    return attach(network, profile=profile, audio=student.audio_patcher(audio, profile))


def host_network(wan: dict[str, Tensor], config: WanConfig, *, dtype: torch.dtype) -> ModelPatcher:
    """The host's own network, made by its loader where the tensors are. Takes the tensors out of the dict."""
    with next(iter(wan.values())).device:
        patcher = comfy.sd.load_diffusion_model_state_dict(
            wan, model_options={"dtype": dtype}, metadata=with_sizes({}, config)
        )
    memory.compute_in(patcher, dtype)
    return patcher


def random_vae(width: int) -> comfy.sd.VAE:
    """A Wan 2.1 VAE in the number format that the host chooses. width: 96 as published."""
    device = comfy.model_management.get_torch_device()
    return comfy.sd.VAE(sd=random_tensors(wan_vae(dim=width), device=device))


@contextmanager
def running(
    model: ModelPatcher, vae: comfy.sd.VAE, *, chunks: int, keeping_past: Timed
) -> Iterator[tuple[RunningStream, Decoder]]:
    """A session of so many chunks as the nodes open it, and what shows it; models are on their devices.

    keeping_past: entered around the clean-context pass, or around the encoding of motion frames.
    """
    profile = profile_of(model)
    memory.load_together([model, *model.get_nested_additional_models(), vae.patcher], extra_bytes=0)
    decoder = open_decoder(vae, dtype=decoding_dtype(vae, "auto"), exact=False)
    with decoder, opened(model) as network:
        if profile.motion_frames:
            pictures = random_pictures(vae, decoder, profile, keeping_past)
            yield motion_session(network, profile, pictures, chunks=chunks), ChunkDecoder(pictures)
        else:
            yield cache_session(network, profile, chunks=chunks, keeping_past=keeping_past), decoder


def opened(model: ModelPatcher) -> HostNetwork | HostSpeakerNetwork:
    """The student with a random text, and a random portrait where it reads one; to be entered."""
    network = model.model.diffusion_model
    text_BMD = random(1, TEXT_ROWS, network.text_dim)
    if profile_of(model).family == "audiopack":
        return HostNetwork(model, text_BMD=text_BMD)
    width = network.img_emb.proj[0].normalized_shape[0]
    return HostSpeakerNetwork(model, text_BMD=text_BMD, image_BMC=random(1, VISION_ROWS, width))


def cache_session(
    network: HostNetwork | HostSpeakerNetwork, profile: StudentProfile, *, chunks: int, keeping_past: Timed
) -> StreamSession:
    """A session of a student with a KV cache, as trained."""
    spec = StreamSpec(cache_spec=profile.cache_spec, **spec_parts(profile, latents=chunks * profile.chunk))
    return StreamSession(
        spec,
        CleanPassTimed(network, profile.context_timestep, keeping_past),
        cache=network.make_cache(spec.cache_spec, spec.grid),
        speech=RandomSpeech(network),
        reference=random_reference(network, profile),
        noise=SeededNoise(0),
    )


def motion_session(
    network: HostSpeakerNetwork, profile: StudentProfile, pictures: ChunkPictures, *, chunks: int
) -> MotionSession:
    """A session of a student with motion frames."""
    return MotionSession(
        MotionSpec(**spec_parts(profile, latents=chunks * profile.chunk)),
        network,
        pictures=pictures,
        speech=RandomSpeech(network),
        conditioning=random_reference(network, profile),
        noise=SeededNoise(0),
    )


def spec_parts(profile: StudentProfile, *, latents: int) -> dict[str, object]:
    """What both kinds of stream are described by, with a voice at least as long as so many latents."""
    return {
        "profile": profile,
        "schedule": Schedule.from_sigmas(profile.sigmas, rounding=profile.timestep_rounding),
        "latent_height": profile.height // PIXELS_PER_LATENT,
        "latent_width": profile.width // PIXELS_PER_LATENT,
        "samples": 4 * latents * RATE * profile.fps_den // profile.fps_num,
        "sample_rate": RATE,
    }


def random_reference(network: HostNetwork | HostSpeakerNetwork, profile: StudentProfile) -> Conditioning:
    """The channels beside the noisy latent: of a portrait, or of a video that is followed."""
    size = (profile.height // PIXELS_PER_LATENT, profile.width // PIXELS_PER_LATENT)
    latent_BCTHW = random(1, LATENT_CHANNELS, profile.condition_latents, *size)
    if profile.family == "multitalk":
        return ClipConditioning(latent_BCTHW, clamp_first_latent=profile.clamp_first_latent)
    if network.in_dim == VIDEO_CHANNELS:
        return SourceConditioning(RandomVideo(size), random(*size).gt(0).float(), latent_BCTHW)
    return ReferenceLatents.for_profile(latent_BCTHW, profile)


def random_pictures(
    vae: comfy.sd.VAE, decoder: Decoder, profile: StudentProfile, keeping_past: Timed
) -> ChunkPictures:
    """What a student with motion frames sees of its own chunks."""
    picture_BCHW = random(1, 3, profile.height, profile.width).clamp(-1, 1).to(vae.device)
    return ChunkPictures(
        EncodingTimed(vae, decoder, keeping_past), picture_BCHW, colour_match=profile.colour_match
    )


def random(*shape: int) -> Tensor:
    """The same normal numbers for the same shape, on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


class RandomSpeech:
    """Audio tokens in place of an encoded voice, of the width that a network hears."""

    def __init__(self, network: HostNetwork | HostSpeakerNetwork) -> None:
        if isinstance(network, HostNetwork):
            self._shape = (audio_modules(network.patcher).audio_proj.proj.out_features,)
            return
        projection = audio_part(network.patcher).audio_proj
        (width,) = projection.norm.normalized_shape
        self._shape = (projection.proj3.out_features // width, width)

    def tokens(self, first_latent: int, latents: int) -> Tensor:
        """Of a chunk: (1, latents, E), or (1, latents, M, E)."""
        return random(1, latents, *self._shape)

    def chunk_tokens(self, first_frame: int, frames: int) -> Tensor:
        """Of a chunk that starts with a latent of one frame."""
        return self.tokens(0, (frames + 3) // 4)


@dataclasses.dataclass(frozen=True)
class RandomVideo:
    """Latents in place of an encoded video."""

    size: tuple[int, int]

    def read(self, first_latent: int, latents: int) -> Tensor:
        """Pairs (2, 16, latents, H, W)."""
        return random(2, LATENT_CHANNELS, latents, *self.size)


class CleanPassTimed:
    """A network whose passes at the context timestep are timed."""

    def __init__(
        self, network: HostNetwork | HostSpeakerNetwork, context_timestep: float, timed: Timed
    ) -> None:
        self._network, self._context_timestep, self._timed = network, context_timestep, timed
        self.in_dim, self.device = network.in_dim, network.device

    def velocity(self, x_BCTHW: Tensor, *, timestep: float, **inputs: object) -> Tensor:
        """The network's velocity."""
        with self._timed() if timestep == self._context_timestep else nullcontext():
            return self._network.velocity(x_BCTHW, timestep=timestep, **inputs)


class EncodingTimed(HostCodec):
    """A codec whose encoding is timed."""

    def __init__(self, vae: comfy.sd.VAE, decoder: Decoder, timed: Timed) -> None:
        super().__init__(vae, decoder)
        self._timed = timed

    def encode(self, video_BCFHW: Tensor) -> Tensor:
        """The VAE's latents."""
        with self._timed():
            return super().encode(video_BCFHW)
