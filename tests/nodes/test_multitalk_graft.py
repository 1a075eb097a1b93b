"""MultiTalk students on the host's own modules: recorded steps, two speakers, guidance, EchoTorrent's loop."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.multitalk import MultiTalkStudent, is_audio, open_multitalk
from talkstream.networks.multitalk_profiles import INFINITETALK
from talkstream.samplers.guidance import Guidance
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import Schedule, spaced_sigmas
from talkstream.streaming.motion import MotionSpec, encode_conditioning
from talkstream.streaming.motion_pictures import ChunkPictures
from talkstream.streaming.motion_session import MotionSession
from talkstream.streaming.session import StreamSession
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, chunk_tokens, close
from talkstream.tests.golden.test_echotorrent_cache import VARIANTS
from talkstream.tests.golden.test_echotorrent_stream import Rig as EchoRig
from talkstream.tests.golden.test_multitalk_motion import RATE, Rig, Voices, cover

pytestmark = pytest.mark.host


def write_pair(golden: MultiTalkGolden, folder) -> MultiTalkStudent:
    """The weights as InfiniteTalk is published, base and audio part; texts keep their 32 rows."""
    state = {key[3:]: value.contiguous() for key, value in golden.tensors.items() if key.startswith("sd.")}
    for audio, name in ((False, "wan"), (True, "audio")):
        part = {key: value for key, value in state.items() if is_audio(key) == audio}
        save_file(part, folder / f"{name}.safetensors")
    student = open_multitalk(folder / "wan.safetensors", audio=folder / "audio.safetensors")
    return dataclasses.replace(student, profile=dataclasses.replace(student.profile, text_rows=32))


@pytest.fixture(scope="module")
def rig(golden_file) -> Rig:
    return Rig(golden_file("infinitetalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def student(rig, tmp_path_factory) -> MultiTalkStudent:
    return write_pair(rig.golden, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def grafted(host, student):
    """The MODEL in float32; FlashTalk's golden holds the same weights as InfiniteTalk's."""
    from talkstream.nodes.host.multitalk import load_multitalk

    return load_multitalk(student, precision="fp32")


def opened(model, golden: MultiTalkGolden):
    """The MODEL loaded, as a network with a golden's texts and CLIP vision tokens."""
    import comfy.model_management

    from talkstream.nodes.host.multitalk import HostSpeakerNetwork

    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    clip = golden["in.clip_fea"]
    negative = golden["in.context_null"][None] if "in.context_null" in golden.tensors else None
    return HostSpeakerNetwork(
        model,
        text_BMD=golden["in.context"][None],
        image_BMC=clip if clip.ndim == 3 else clip[None],
        negative_BMD=negative,
    )


def flashtalk_steps(model, golden: MultiTalkGolden, steps: list[tuple[int, int]]) -> None:
    """Recorded steps through a grafted MODEL: within 5e-5."""
    from talkstream.nodes.host.multitalk import audio_part

    with torch.inference_mode(), opened(model, golden) as network:
        for chunk, step in steps:
            name = f"chunk{chunk}.step{step}"
            made = network.velocity(
                torch.cat([golden[f"{name}.x_in"][None], golden["in.y"]], dim=1),
                timestep=float(golden[f"{name}.t"]),
                audio_tokens_BTE=chunk_tokens(audio_part(model), [golden["in.audio_raw"]], 28 * chunk, 33),
            )
            close(made[0], golden[f"{name}.pred"], 5e-5)
        with pytest.raises(ValueError, match="needs a negative text"):
            network.velocity(torch.zeros(1, 36, 9, 4, 6), timestep=1.0, audio_tokens_BTE=None, negative=True)


def test_every_flashtalk_step(grafted, golden_file):
    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    flashtalk_steps(grafted, golden, [(chunk, step) for chunk in (0, 1) for step in range(4)])


def test_the_hosts_own_audio_patch(grafted, student, golden_file):
    """A core MODEL_PATCH beside the network in place of ours: the same steps."""
    import comfy.ops
    from comfy_extras.nodes_model_patch import MultiTalkModelPatch

    from talkstream.nodes.host import memory
    from talkstream.nodes.host.multitalk import attach_audio

    patch = MultiTalkModelPatch(
        intermediate_dim=8, in_dim=256, out_dim=48, num_layers=3, operations=comfy.ops.manual_cast
    )
    patch.load_state_dict(student.audio_tensors(), strict=True)
    patched = attach_audio(grafted, profile=student.profile, audio=memory.module_patcher(patch.float()))
    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    flashtalk_steps(patched, golden, [(0, 0), (1, 3)])


@pytest.mark.parametrize(("run", "frames"), [("double", 50), ("double_cfg", 33)])
def test_two_speakers_and_guidance_in_closed_loop(grafted, rig, run, frames):
    """InfiniteTalk with three masks, and with guidance 5/4: latents within 1e-3."""
    from talkstream.nodes.host.multitalk import audio_part

    golden = rig.golden
    names = ("in.audio_raw1", "in.audio_raw2")
    tracks = [torch.cat([golden[name], golden[name][-10:].flip(0)]) for name in names]
    picture = cover(golden["in.cond_image_uint8"], 32, 48)
    profile = dataclasses.replace(INFINITETALK, chunk=9, condition_latents=9)
    spec = MotionSpec(profile, Schedule.from_sigmas(spaced_sigmas(2, 7.0)), 4, 6, frames * 640, RATE)
    with torch.inference_mode(), opened(grafted, golden) as network:
        session = MotionSession(
            spec,
            network,
            pictures=ChunkPictures(rig.codec, picture, colour_match=1.0),
            speech=Voices(audio_part(grafted), tracks, offset=0),
            conditioning=encode_conditioning(picture, rig.codec, latents=9),
            noise=RecordedNoise(
                {(c, 0): golden[f"{run}.chunk{c}.noise_init"][None] for c in range(spec.chunks)}
            ),
            guidance=Guidance(text=5.0, audio=4.0) if run == "double_cfg" else Guidance(),
            masks_PL=golden[f"{run}.ref_target_masks"][:, ::2, ::2].flatten(1),
        )
        for c, part in enumerate(session.chunks()):
            close(part.latent_BCTHW[0], golden[f"{run}.chunk{c}.latent_out"], 1e-3)
    assert c + 1 == spec.chunks


@pytest.fixture(scope="module")
def echo(host, golden_file, tmp_path_factory):
    """EchoTorrent's golden and its MODEL in one number format, made once for each."""
    from talkstream.nodes.host.multitalk import load_multitalk

    path, folder, made = golden_file("echotorrent_tiny.safetensors"), tmp_path_factory.mktemp("echo"), {}

    def of(dtype: torch.dtype):
        if dtype not in made:
            rig = EchoRig(path, dtype)
            made[dtype] = rig, load_multitalk(write_pair(rig.golden, folder), precision="fp32")
            if dtype == torch.float64:
                in_double(made[dtype][1])
        return made[dtype]

    return of


def in_double(model) -> None:
    """Weights and activations of a MODEL in float64, which the host has no setting for."""
    model.model.diffusion_model.double()
    model.model.manual_cast_dtype = torch.float64
    for audio in model.get_nested_additional_models():
        audio.model.double()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_echotorrent_in_closed_loop(echo, variant, dtype, tolerance):
    """Per-step caches, every layer pattern and both sinks on the host's modules: the oracle's latents."""
    rig, model = echo(dtype)
    own = rig.session(variant)
    with torch.inference_mode(), opened(model, rig.golden) as network:
        session = StreamSession(
            own.spec,
            network,
            cache=network.make_cache(own.spec.cache_spec, own.spec.grid, dtype=dtype),
            speech=rig,
            reference=rig.reference,
            noise=own._noise,
        )
        made = torch.stack([chunk.latent_BCTHW[0].double() for chunk in session.chunks()])
    close(made, rig.golden.tensors[f"{variant}.latents"], tolerance)


def test_an_ordinary_sampler_is_refused(grafted, rig):
    """Without a stream the MODEL says where it belongs."""
    with torch.inference_mode(), opened(grafted, rig.golden) as network:
        with pytest.raises(RuntimeError, match="this MODEL streams: connect it"):
            grafted.model.apply_model(
                torch.zeros(1, 16, 1, 4, 6),
                torch.ones(1),
                c_concat=torch.zeros(1, 20, 1, 4, 6),
                c_crossattn=torch.zeros(1, 32, 64),
                transformer_options=network.options["transformer_options"],
            )
