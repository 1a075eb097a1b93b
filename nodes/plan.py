"""Behind Stream Chunks and Decode Stream: do the parts fit together, and what will the stream be."""

from __future__ import annotations

import dataclasses
import logging
from fractions import Fraction

import torch
from comfy_api.latest import io
from torch import Tensor

from ..networks.cache_spec import CacheSpec
from ..networks.profile import StudentProfile
from ..samplers.schedule import Schedule
from ..streaming.motion import MotionSpec
from ..streaming.spec import StreamSpec
from .host import decoders
from .host import vae as host_vae
from .host.graft import profile_of, sentence_of, text_width
from .host.takes import new_take
from .leading import check_unguided, guidance_of, masks_of, rows_of
from .source_video import segments_of
from .types import CacheChoice, Frames, GuidanceChoice, Reference, SourceVideo, Speech, Stream
from .voice import heard_samples

logger = logging.getLogger(__name__)

PORTRAIT_CHANNELS = {"audiopack": 33, "multitalk": 36}
VIDEO_CHANNELS = 65


def plan_stream(
    model: io.Model.Type,
    speech: Speech,
    reference: Reference,
    *,
    conditioning: io.Conditioning.Type | None,
    sigmas: Tensor | None,
    cache: CacheChoice | None,
    seed: int,
    source: SourceVideo | None = None,
    guidance: GuidanceChoice | None = None,
) -> Stream:
    """A checked stream. Raises ValueError, in one sentence, for parts that do not belong together."""
    profile, width = profile_of(model), text_width(model)
    text_BMD = text_of(conditioning, profile, width=width, own_BMD=sentence_of(model))
    stream = stream_of(
        model, speech, reference, text_BMD=text_BMD, sigmas=sigmas, cache=cache, seed=seed, source=source
    )
    if not profile.motion_frames:
        check_unguided(profile, guidance)
        return stream
    strengths, negative_BMD = guidance_of(profile, guidance, width=width)
    return dataclasses.replace(
        stream, guidance=strengths, negative_BMD=negative_BMD, masks_PL=masks_of(speech, reference)
    )


def stream_of(
    model: io.Model.Type,
    speech: Speech,
    reference: Reference,
    *,
    text_BMD: Tensor | None,
    sigmas: Tensor | None,
    cache: CacheChoice | None,
    seed: int,
    source: SourceVideo | None = None,
) -> Stream:
    """A checked stream whose text is known already, or comes from elsewhere (None)."""
    profile = profile_of(model)
    check_student(model, profile, speech)
    check_channels(model, profile, source)
    check_reference(profile, reference, source)
    cache = cache or CacheChoice()
    parts = {
        "profile": profile,
        "schedule": Schedule.from_sigmas(levels_of(sigmas, profile), rounding=profile.timestep_rounding),
        "latent_height": reference.latent_BCTHW.shape[-2],
        "latent_width": reference.latent_BCTHW.shape[-1],
        "samples": heard_samples(speech),
        "sample_rate": speech.sample_rate,
    }
    if profile.motion_frames:
        check_no_cache(profile, cache)
        spec = MotionSpec(**parts)
    else:
        changed = changed_cache(profile.cache_spec, cache, steps=parts["schedule"].steps)
        spec = StreamSpec(**parts, cache_spec=changed)
    if source is not None:
        spec = dataclasses.replace(spec, segments=segments_of(source, frames=spec.frames))
    return Stream(
        model, profile, spec, speech, reference, text_BMD, cache, seed, new_take(spec), source=source
    )


def levels_of(sigmas: Tensor | None, profile: StudentProfile) -> Tensor | tuple[float, ...]:
    """The noise levels of the wire; the student's own, exactly, where it carries those rounded to float32."""
    trained = torch.tensor(profile.sigmas, dtype=torch.float32)
    if sigmas is None or torch.equal(sigmas.cpu().float(), trained):
        return profile.sigmas
    return sigmas


def check_student(model: io.Model.Type, profile: StudentProfile, speech: Speech) -> None:
    """A network that streams, and the same one everywhere."""
    if profile.offline:
        raise ValueError(f"{profile.name!r} loads but does not stream: {profile.offline}")
    if speech.profile != profile:
        raise ValueError(
            f"the voice was prepared for the student {speech.profile.name!r}, the MODEL is {profile.name!r}; connect "
            "the same MODEL to Encode Speech and Stream Chunks"
        )


def check_channels(model: io.Model.Type, profile: StudentProfile, source: SourceVideo | None) -> None:
    """A video for a student that repaints one, and none for a student that starts from a portrait."""
    channels = model.model.diffusion_model.in_dim
    expected = PORTRAIT_CHANNELS[profile.family] if source is None else VIDEO_CHANNELS
    if channels == expected:
        return
    if channels == VIDEO_CHANNELS:
        what = "it repaints the mouth of a video: connect Encode Source Video to source of Stream Chunks"
    else:
        what = "it starts from a portrait: leave source of Stream Chunks open"
    raise ValueError(f"the student {profile.name!r} takes {channels} input channels, so {what}")


def check_reference(profile: StudentProfile, reference: Reference, source: SourceVideo | None) -> None:
    """A picture that was encoded for a student of this family; the first of the video, where one is followed."""
    latents = reference.latent_BCTHW.shape[2]
    if latents != profile.condition_latents or (profile.family == "multitalk") != (
        reference.image_BMC is not None
    ):
        raise ValueError(
            f"the portrait was encoded for another student than {profile.name!r}; connect the same MODEL to Encode "
            "Reference and Stream Chunks"
        )
    if source is None:
        return
    if source.profile != profile:
        raise ValueError(
            f"the video was encoded for the student {source.profile.name!r}, the MODEL is {profile.name!r}; connect "
            "the same MODEL to Encode Source Video and Stream Chunks"
        )
    if (reference.width, reference.height) != (source.side, source.side):
        raise ValueError(
            f"the reference is {reference.width}x{reference.height}, the video's faces are {source.side}x"
            f"{source.side}; connect the reference that Encode Source Video gives"
        )


def check_no_cache(profile: StudentProfile, choice: CacheChoice) -> None:
    """No changes to a KV cache where there is none."""
    if choice != CacheChoice():
        raise ValueError(
            f"the student {profile.name!r} remembers its last pictures and has no KV cache to change; remove KV Cache"
        )


def changed_cache(trained: CacheSpec, choice: CacheChoice, *, steps: int) -> CacheSpec:
    """The student's cache with the user's changes. Raises ValueError for a window too short for its parts."""
    sink = trained.sink if choice.sink is None else choice.sink
    history = trained.history
    if choice.window is not None:
        longest = choice.window - sink - trained.chunk
        if longest < 0:
            raise ValueError(
                f"KV Cache has a window of {choice.window} latents, too short for a sink of {sink} and a chunk of "
                f"{trained.chunk}; make it at least {sink + trained.chunk}"
            )
        history = tuple(min(h, longest) if h < trained.longest_history else longest for h in history)
    rule = choice.sink_rule or trained.sink_rule
    offset = trained.sink_offset if choice.sink_offset is None else choice.sink_offset
    return dataclasses.replace(
        trained,
        sink=sink,
        history=history,
        sink_rule=rule,
        sink_offset=offset if rule == "ahead" else 0,
        steps=steps,
    )


def text_of(
    conditioning: io.Conditioning.Type | None,
    profile: StudentProfile,
    *,
    width: int,
    own_BMD: Tensor | None = None,
) -> Tensor | None:
    """Text rows (1, M, width), or None for a student that reads none. Raises ValueError where they are missing.

    own_BMD: the sentence that the student's file brings with it, for an open wire.
    """
    if profile.text == "null":
        if conditioning is not None:
            logger.warning("the student %r reads no text: its conditioning is not used", profile.name)
        return None
    if not conditioning:
        if own_BMD is not None:
            return own_BMD
        raise ValueError(
            f"the student {profile.name!r} reads a text and got none; connect CLIP Text Encode (umT5-XXL), or Load "
            "Conditioning, to conditioning"
        )
    return rows_of(conditioning, width=width)


def plan_frames(
    stream: Stream,
    vae: io.Vae.Type,
    *,
    precision: str,
    preview_vae: io.Vae.Type | None = None,
    tiny_scale: str = "auto",
) -> Frames:
    """The stream's pictures. Raises ValueError for a VAE that cannot show the student's latents."""
    profile = stream.profile
    if preview_vae is not None and not decoders.is_tiny(preview_vae):
        raise ValueError(
            "preview_vae got a full VAE, which would decode everything twice; connect a tiny decoder (taew2_1, "
            "lighttaew2_1), or leave it open"
        )
    for shown in (vae, preview_vae):
        if shown is not None:
            decoders.check_decoder(shown, student=profile.name)
    return Frames(
        stream=stream,
        vae=vae,
        decoding_dtype=host_vae.decoding_dtype(vae, precision),
        exact_decoding=precision == "exact",
        width=stream.reference.width,
        height=stream.reference.height,
        fps=Fraction(profile.fps_num, profile.fps_den),
        frames=stream.spec.frames,
        preview_vae=preview_vae,
        tiny_scale=tiny_scale,
    )
