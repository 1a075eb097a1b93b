"""InfiniteTalk's golden through the nodes themselves: from files as they are published to latents and pictures.

Its features stand in for what wav2vec2 makes of the voices, its stub for the VAE; everything between is what a graph
runs: Load Student, Encode Speech or Encode Speakers, Speaker Masks, Encode Reference, Guidance, Stream Chunks.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from talkstream.audio.windows import mirrored, places_around
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import spaced_sigmas
from talkstream.streaming.motion import encode_conditioning
from talkstream.streaming.motion_pictures import ChunkPictures
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, close
from talkstream.tests.golden.multitalk_taps import check_taps, tapped
from talkstream.tests.golden.test_infinitetalk_network import CALLS, FRAMES, STRIDE, token_masks, tracks
from talkstream.tests.golden.test_multitalk_motion import RATE, Rig
from talkstream.tests.model_loaders.test_multitalk import write_form
from talkstream.tests.nodes.test_multitalk_graft import core_pair, loaded, opened
from talkstream.tests.nodes.test_use_model import fp8

pytestmark = pytest.mark.host
_ROOT = Path(__file__).resolve().parents[2]

RUNS = {"single": 50, "double": 50, "double_cfg": 33}
CORE_PAIR = "MODEL and MODEL_PATCH"
FORMS = ("pair", "pair with shards", "merged, other spelling", "shards: folder", CORE_PAIR)
WHY = dict(
    zip(FORMS, ("its form", "its form", "chosen by you", "chosen by you", "a network and a"), strict=True)
)
EIGHT_BIT = {"fp8": None, "scaled fp8": "old", "listed fp8": "listed"}


@pytest.fixture(scope="module")
def rig(golden_file) -> Rig:
    return Rig(golden_file("infinitetalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def student(host, rig, tmp_path_factory):
    """student(form): the MODEL from files of that form, as Load Student makes it, and its lines; made once."""
    from talkstream.nodes.host.adopt import use_as_student
    from talkstream.nodes.host.graft import profile_of
    from talkstream.nodes.host.student import load_student

    golden, made = rig.golden, {}
    state = {key[3:]: value.contiguous() for key, value in golden.tensors.items() if key.startswith("sd.")}

    def of(form: str):
        if form in made:
            return made[form]
        whole = form in EIGHT_BIT or form == CORE_PAIR
        files = write_form("pair" if whole else form, state, tmp_path_factory.mktemp("form"))
        if form in EIGHT_BIT:
            files = {
                name: fp8(path, path.with_name(f"{name}_fp8.safetensors"), scaled=EIGHT_BIT[form])
                for name, path in files.items()
            }
        path, base = (files["audio"], files["path"]) if "audio" in files else (files["path"], None)
        if form == CORE_PAIR:
            plain, patch = core_pair(files)
            model, text = use_as_student(plain, base, profile="auto", patch=patch)
        else:
            model, text = load_student(
                path,
                profile="auto" if base else "infinitetalk",
                precision="auto" if form in EIGHT_BIT else "fp32",
                base=base,
            )
        tiny = {"chunk": 9, "condition_latents": 9, "text_rows": 32}  # of the golden's sizes
        model.set_attachments("talkstream_profile", dataclasses.replace(profile_of(model), **tiny))
        made[form] = model, text
        return made[form]

    return of


class RecordedVoice:
    """Recorded features in place of an encoder's, in windows as an encoder's are cut."""

    def __init__(self, track: torch.Tensor) -> None:
        self._track = track.flatten(1)

    def windows(self, first_frame: int, frames: int) -> torch.Tensor:
        places = mirrored(places_around(first_frame, frames, window=5), len(self._track))
        return self._track[places.clamp(0, len(self._track) - 1)]


def encoder():
    """As much of a wav2vec2 of the right sizes as is looked at before it hears anything."""
    layer = SimpleNamespace(attention=SimpleNamespace(embed_dim=768))
    network = SimpleNamespace(feature_extractor=None, encoder=SimpleNamespace(layers=[layer] * 12))
    return SimpleNamespace(model=network, patcher=None)


def audio(number: int, frames: int) -> dict:
    """An AUDIO whose samples say which voice it is."""
    return {"waveform": torch.full((1, 1, frames * RATE // 25), 0.1 * number), "sample_rate": RATE}


def stream_of(monkeypatch, rig: Rig, model, run: str):
    """What Stream Chunks gives, every other node's execute before it."""
    from talkstream.nodes import hearing, portrait
    from talkstream.nodes.encode import EncodeReference, EncodeSpeech
    from talkstream.nodes.guidance import Guidance
    from talkstream.nodes.speakers import EncodeSpeakers, SpeakerMasks
    from talkstream.nodes.stream import StreamChunks

    golden, codec, frames = rig.golden, rig.codec, RUNS[run]

    def open_voice(speech, samples_CS):
        number = round(float(samples_CS[0, 0]) / 0.1)
        return RecordedVoice(golden[f"in.audio_raw{number}"])

    def encode_picture(vae, image_BHWC, *, latents):
        picture = (2 * image_BHWC - 1).movedim(-1, 1)
        return encode_conditioning(picture, codec, latents=latents).latent_BCTHW

    monkeypatch.setattr(hearing, "open_voice", open_voice)
    stub = SimpleNamespace(check_vae=lambda vae, student: None, encode_picture=encode_picture)
    monkeypatch.setattr(portrait, "host_vae", stub)
    image = golden["in.cond_image_uint8"][None] / 255
    masks = None
    if run == "single":
        speech = EncodeSpeech.execute(model, audio(1, frames), encoder()).result[0]
    else:
        voices = audio(1, frames), audio(2, frames)
        speech = EncodeSpeakers.execute(model, *voices, encoder(), "together").result[0]
        masks = SpeakerMasks.execute(image, 2).result[0]
    seen = SimpleNamespace(penultimate_hidden_states=golden["in.clip_fea"].reshape(1, 257, 1280))
    vae = SimpleNamespace(patcher=None)
    size = {"width": 48, "height": 32, "clip_vision_output": seen, "speaker_masks": masks}
    reference = EncodeReference.execute(model, vae, image, **size).result[0]
    strengths = (5.0, 4.0) if run == "double_cfg" else (1.0, 1.0)
    negative = [[golden["in.context_null"][None], {}]]
    return StreamChunks.execute(
        model,
        speech,
        reference,
        0,
        conditioning=[[golden["in.context"][None], {}]],
        sigmas=torch.tensor(spaced_sigmas(2, 7.0)),
        guidance=Guidance.execute(*strengths, negative=negative).result[0],
    ).result[0]


def made_of(rig: Rig, stream, run: str) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Every chunk's latents and the video, from recorded noise."""
    from talkstream.nodes import sessions

    golden, chunks, video = rig.golden, [], []
    draws = {(c, 0): golden[f"{run}.chunk{c}.noise_init"][None] for c in range(stream.spec.chunks)}
    loaded(stream.model)
    with torch.inference_mode(), sessions.open_network(stream) as network:
        session = sessions.open_session(
            stream,
            network,
            pictures=ChunkPictures(
                rig.codec, stream.reference.picture_BCHW, colour_match=stream.profile.colour_match
            ),
            noise=RecordedNoise(draws),
            on_step=lambda step, x0: None,
        )
        for part in session.chunks():
            chunks.append(part.latent_BCTHW[0])
            video.append(session.pictures.of(part.latent_BCTHW)[0, :, part.skip : part.skip + part.frames])
    return chunks, torch.cat(video, dim=1)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("form", FORMS)
def test_closed_loop(student, rig, monkeypatch, form, run):
    """One voice, two with three masks, two with guidance 5/4: latents within 1e-3, pictures as stored (bf16)."""
    golden = rig.golden
    model, text = student(form)
    assert f"profile infinitetalk: {WHY[form]}" in text
    stream = stream_of(monkeypatch, rig, model, run)
    close(stream.reference.latent_BCTHW, golden[f"{run}.y"][:, 4:], 1e-5)
    if run != "single":
        assert torch.equal(stream.masks_PL, token_masks(golden, run))
    chunks, video = made_of(rig, stream, run)
    for c, latent in enumerate(chunks):
        close(latent, golden[f"{run}.chunk{c}.latent_out"], 1e-3)
    assert c + 1 == stream.spec.chunks == (1 if run == "double_cfg" else 2)
    close(video, golden[f"{run}.video_out"], 5e-3)


@pytest.mark.parametrize("form", EIGHT_BIT)
def test_eight_bit_files(student, rig, monkeypatch, form):
    """Network and audio part in fp8: the two speakers' latents within fp8's own error of a few percent."""
    model, _ = student(form)
    chunks, _ = made_of(rig, stream_of(monkeypatch, rig, model, "double"), "double")
    for c, latent in enumerate(chunks):
        expected = rig.golden[f"double.chunk{c}.latent_out"]
        error = (latent.float() - expected).square().mean().sqrt() / expected.std()
        assert 1e-4 < float(error) < 0.1


def test_few_step_levels_of_the_help(host, rig, golden_file):
    """The lists that the help pages give are the reference's timesteps within 1e-3."""
    from talkstream.nodes.levels import sigmas_of

    pages = [
        (_ROOT / "web" / "docs" / f"TalkStream{name}.md").read_text("utf-8")
        for name in ("Guidance", "StepSchedule")
    ]
    lists = [text for page in pages for text in re.findall(r"`(1, [0-9., ]+)`", page)]
    flash = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    recorded = [
        rig.golden["aux.timesteps_4_shift2"],
        rig.golden["aux.timesteps_8_shift2"],
        flash["aux.timesteps_2"],
    ]
    for custom, shift, expected in zip(lists, (2.0, 2.0, 5.0), recorded, strict=True):
        levels = sigmas_of("custom list", shift=shift, custom=custom, model=None)
        close(1000 * torch.tensor(levels), expected, 1e-3)


def velocity(network, model, golden: MultiTalkGolden, run: str, chunk: int, step: int, branch: str):
    """One recorded call on the host's modules."""
    from talkstream.nodes.host.multitalk import audio_part
    from talkstream.tests.golden.multitalk_golden import chunk_tokens

    silent, name = branch in ("drop_audio", "uncond"), f"{run}.chunk{chunk}.step{step}"
    heard = [torch.zeros(FRAMES, 12, 768)] if silent else tracks(golden, run)
    return network.velocity(
        torch.cat([golden[f"{name}.x_in"][None], golden[f"{run}.y"]], dim=1),
        timestep=float(golden[f"{name}.t"]),
        audio_tokens_BTE=chunk_tokens(audio_part(model), heard, 0 if silent else STRIDE * chunk, FRAMES),
        masks_PL=None if silent else token_masks(golden, run),
        negative=branch in ("drop_text", "uncond"),
    )[0]


@pytest.mark.parametrize("form", ["pair", "shards: folder"])
def test_every_recorded_call(student, rig, form):
    """Each velocity within 5e-5, from the recorded input."""
    model, _ = student(form)
    with torch.inference_mode(), opened(model, rig.golden) as network:
        for run, chunk, step, branch in CALLS:
            made = velocity(network, model, rig.golden, run, chunk, step, branch)
            close(made, rig.golden[f"{run}.chunk{chunk}.step{step}.pred_{branch}"], 5e-5)
    assert len(CALLS) == 22


@pytest.mark.parametrize("call", [0, 4])
@pytest.mark.parametrize("run", ["single", "double"])
def test_parts_of_a_step(student, rig, run, call):
    """Outputs of the host's own sub-modules and blocks within 5e-5."""
    from talkstream.nodes.host.multitalk import audio_part

    model, _ = student("pair")
    inner = model.model.diffusion_model
    with (
        torch.inference_mode(),
        opened(model, rig.golden) as network,
        tapped(inner, audio_part(model)) as seen,
    ):
        velocity(network, model, rig.golden, run, call // 4, 0, "cond")
    check_taps(seen, rig.golden, f"tap.{run}.call{call}.")
