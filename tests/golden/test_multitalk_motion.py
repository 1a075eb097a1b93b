"""Chunks with motion frames against the reference: colours, conditioning, masks, closed loops over two chunks."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from talkstream.media.covering import cover_masks, cover_picture
from talkstream.networks.attention import pad_text
from talkstream.networks.multitalk_profiles import FLASHTALK, INFINITETALK
from talkstream.samplers.guidance import Guidance
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import Schedule, spaced_sigmas
from talkstream.streaming.colour import match_colours
from talkstream.streaming.motion import MotionSpec, encode_conditioning
from talkstream.streaming.motion_pictures import ChunkPictures
from talkstream.streaming.motion_session import MotionSession
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.running import Latents
from talkstream.streaming.speakers import boxes_side_by_side, masks_of_boxes, token_masks
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, StubVAE, build, chunk_tokens, close

RATE = 16000


class Rig:
    """A golden's network, inputs and stub VAE."""

    def __init__(self, path) -> None:
        self.golden = MultiTalkGolden(path)
        self.model = build(self.golden)
        self.codec = StubVAE(self.golden)

    def network(self) -> LocalNetwork:
        golden = self.golden
        texts = [golden["in.context"]]
        texts += [golden["in.context_null"]] if "in.context_null" in golden.tensors else []
        rows = [pad_text(text[None], golden.config["text_len"]) for text in texts]
        return LocalNetwork(
            self.model, text_BMD=rows[0], image_BMC=golden["in.clip_fea"], negative_BMD=rows[-1]
        )


class Voices:
    """Speech of the goldens: features of a whole clip, `offset` frames later than an aligned stream would ask."""

    def __init__(self, model, tracks: list[Tensor], offset: int) -> None:
        self.model, self.tracks, self.offset = model, tracks, offset

    def chunk_tokens(self, first_frame: int, frames: int) -> Tensor:
        return chunk_tokens(self.model, self.tracks, first_frame + self.offset, frames)

    def silent_tokens(self, frames: int) -> Tensor:
        return chunk_tokens(self.model, [torch.zeros(frames, 12, 768)], 0, frames)


@pytest.fixture(scope="module")
def flash(golden_file) -> Rig:
    return Rig(golden_file("flashtalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def infinite(golden_file) -> Rig:
    return Rig(golden_file("infinitetalk_tiny.safetensors"))


def test_colours(flash, infinite):
    """FlashTalk's transfer within 1e-5, InfiniteTalk's (another library's matrices) within 5e-5."""
    for golden, name, strength, tolerance in (
        (flash.golden, "out_strength1", 1.0, 1e-5),
        (flash.golden, "out_strength0_3", 0.3, 1e-5),
        (infinite.golden, "out_strength1", 1.0, 5e-5),
    ):
        matched = match_colours(golden["color.src"], golden["color.ref"][:, :, 0], strength=strength)
        close(matched, golden[f"color.{name}"], tolerance)
    source = golden["color.src"]
    assert match_colours(source, source[:, :, 0], strength=0) is source
    flat = torch.full((1, 3, 1, 4, 4), 0.25)
    assert bool(torch.isfinite(match_colours(flat, source[:, :, 0])).all())


def test_the_portrait_is_cut_as_recorded(flash):
    """41 x 70 pixels to 32 x 48: half a pixel to the left, rounded to eight bits."""
    golden = flash.golden
    close(cover(golden["in.cond_image_uint8"], 32, 48), golden["in.cond_image"][:, :, 0], 1e-6)


def test_conditioning_is_the_recorded_one(flash):
    """The whole grey-padded clip through the VAE, mask 1 in latent 0 alone."""
    golden = flash.golden
    made = encode_conditioning(golden["in.cond_image"][:, :, 0], flash.codec, latents=9)
    close(made.channels(0, 9), golden["in.y"], 1e-5)


def test_default_masks_of_two_speakers(infinite):
    """Halves of the source picture, cut and reduced as the reference does, to the bit."""
    golden = infinite.golden
    height, width = golden["in.cond_image_uint8"].shape[:2]
    masks = masks_of_boxes(boxes_side_by_side(2), height=height, width=width)
    rows = token_masks(cover_masks(masks, height=32, width=48))
    assert torch.equal(rows, golden["double.ref_target_masks"][:, ::2, ::2].flatten(1))


def test_bad_masks_are_named():
    """Overlap and emptiness in one sentence each."""
    masks = torch.zeros(2, 32, 32)
    masks[0, :, :20] = 1
    with pytest.raises(ValueError, match="mask of speaker 2 covers no token"):
        token_masks(masks)
    masks[1, :, 10:] = 1
    with pytest.raises(ValueError, match="speakers 1 and 2 overlap on 2 of 4 tokens"):
        token_masks(masks)


@pytest.mark.parametrize(("samples", "frames", "chunks"), [(1, 1, 1), (28, 28, 1), (29, 29, 2), (57, 57, 3)])
def test_plan_of_flashtalk(samples, frames, chunks):
    """28 frames a chunk, heard from five frames before what is shown; the last one is trimmed, not dropped."""
    spec = MotionSpec(
        FLASHTALK, Schedule.from_sigmas(FLASHTALK.sigmas), 96, 56, samples=samples * 640, sample_rate=RATE
    )
    plan = [spec.at(i) for i in range(spec.chunks)]
    assert (spec.frames, spec.chunks, spec.stride) == (frames, chunks, 28)
    assert [part.heard for part in plan] == [28 * i - 5 for i in range(chunks)]
    assert [part.motion for part in plan] == [1, 2, 2][:chunks]
    assert all(part.skip == 5 and part.first_frame == 28 * part.index for part in plan)
    assert sum(part.frames for part in plan) == frames and plan[-1].last
    with pytest.raises(ValueError, match=f"got chunk {chunks}"):
        spec.at(chunks)


def test_plan_of_infinitetalk():
    """81 frames, then 72 new ones behind nine that are heard again."""
    schedule = Schedule.from_sigmas(INFINITETALK.sigmas)
    spec = MotionSpec(INFINITETALK, schedule, 80, 80, samples=160 * 640, sample_rate=RATE)
    plan = [spec.at(i) for i in range(spec.chunks)]
    assert [(p.heard, p.skip, p.first_frame, p.frames, p.motion) for p in plan] == [
        (0, 0, 0, 81, 1), (72, 9, 81, 72, 3), (144, 9, 153, 7, 3),
    ]  # fmt: skip
    assert spec.heard_frames == 225


def shown(session: MotionSession, part: Latents) -> Tensor:
    return session.pictures.of(part.latent_BCTHW)[:, :, part.skip : part.skip + part.frames]


def flash_session(rig: Rig) -> MotionSession:
    golden = rig.golden
    draws = {(c, 0): golden[f"chunk{c}.noise_init"][None] for c in (0, 1)}
    draws |= {(c, s + 1): golden[f"chunk{c}.step{s}.noise"][None] for c in (0, 1) for s in range(3)}
    picture = golden["in.cond_image"][:, :, 0]
    return MotionSession(
        MotionSpec(FLASHTALK, Schedule.from_sigmas(FLASHTALK.sigmas), 4, 6, 56 * 640, RATE),
        rig.network(),
        pictures=ChunkPictures(rig.codec, picture, colour_match=1.0),
        speech=Voices(rig.model, [golden["in.audio_raw"]], offset=5),
        conditioning=encode_conditioning(picture, rig.codec, latents=9),
        noise=RecordedNoise(draws),
    )


def test_flashtalk_closed_loop(flash):
    """Two chunks from noise and voice: latents, pictures and motion latents within 1e-3."""
    session, golden = flash_session(flash), flash.golden
    close(session.pictures.motion(None, frames=5)[0], golden["chunk0.motion_latent_in"], 1e-5)
    for c, made in enumerate(session.chunks()):
        close(made.latent_BCTHW[0], golden[f"chunk{c}.latent_out"], 1e-3)
        close(shown(session, made)[0], golden[f"chunk{c}.video_out"], 1e-3)
        motion = session.pictures.motion(made.latent_BCTHW, frames=5)
        close(motion[0], golden[f"chunk{c}.motion_latent_next"], 1e-3)
    assert c == 1 and made.last


def test_state_between_chunks(flash):
    """Saved after chunk 0 and loaded elsewhere, or reset: the same bits."""
    session = flash_session(flash)
    first = next(session.chunks())
    other = flash_session(flash)
    other.load_state_dict(session.state_dict())
    second, again = next(session.chunks()), next(other.chunks())
    assert torch.equal(second.latent_BCTHW, again.latent_BCTHW)
    other.reset()
    assert torch.equal(next(other.chunks()).latent_BCTHW, first.latent_BCTHW)
    session.close()
    assert list(session.chunks()) == []


def cover(image_HWC: Tensor, height: int, width: int) -> Tensor:
    """The picture as Encode Reference cuts it: (1, 3, H, W) in [-1, 1]."""
    return 2 * cover_picture(image_HWC[None] / 255, height=height, width=width).movedim(-1, 1) - 1


@pytest.mark.parametrize(("run", "frames"), [("single", 50), ("double", 50), ("double_cfg", 33)])
def test_infinitetalk_closed_loop(infinite, run, frames):
    """From noise and voices, with guidance 5/4 in the last run: latents within 1e-3, pictures as stored (bf16)."""
    golden = infinite.golden
    names = ["in.audio_raw1"] if run == "single" else ["in.audio_raw1", "in.audio_raw2"]
    tracks = [torch.cat([golden[name], golden[name][-10:].flip(0)]) for name in names]
    picture = cover(golden["in.cond_image_uint8"], 32, 48)
    profile = dataclasses.replace(INFINITETALK, chunk=9, condition_latents=9)
    spec = MotionSpec(profile, Schedule.from_sigmas(spaced_sigmas(2, 7.0)), 4, 6, frames * 640, RATE)
    masks = None if run == "single" else golden[f"{run}.ref_target_masks"][:, ::2, ::2].flatten(1)
    session = MotionSession(
        spec,
        infinite.network(),
        pictures=ChunkPictures(infinite.codec, picture, colour_match=1.0),
        speech=Voices(infinite.model, tracks, offset=0),
        conditioning=encode_conditioning(picture, infinite.codec, latents=9),
        noise=RecordedNoise({(c, 0): golden[f"{run}.chunk{c}.noise_init"][None] for c in range(spec.chunks)}),
        guidance=Guidance(text=5.0, audio=4.0) if run == "double_cfg" else Guidance(),
        masks_PL=masks,
    )
    close(session._conditioning.channels(0, 9), golden[f"{run}.y"], 1e-5)
    video = []
    for c, part in enumerate(session.chunks()):
        motion = golden[f"{run}.chunk{c}.motion_latent"]
        close(part.latent_BCTHW[0, :, : motion.shape[1]], motion, 1e-3)
        close(part.latent_BCTHW[0], golden[f"{run}.chunk{c}.latent_out"], 1e-3)
        video.append(shown(session, part)[0])
    video = torch.cat(video, dim=1)
    close(video, golden[f"{run}.video_out"], 5e-3)
