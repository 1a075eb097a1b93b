"""MultiTalk students on the host's own modules: recorded steps, two speakers, guidance, EchoTorrent's loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.multitalk import is_audio, open_multitalk
from talkstream.networks.cache_spec import CacheSpec
from talkstream.networks.multitalk_profiles import INFINITETALK
from talkstream.networks.profile import METADATA_KEY
from talkstream.samplers.noise import RecordedNoise
from talkstream.streaming.motion import encode_conditioning
from talkstream.streaming.motion_pictures import ChunkPictures
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, StubVAE, chunk_tokens, close
from talkstream.tests.golden.test_echotorrent_cache import VARIANTS
from talkstream.tests.golden.test_echotorrent_stream import PATTERNS
from talkstream.tests.golden.test_echotorrent_stream import Rig as EchoRig
from talkstream.tests.golden.test_multitalk_motion import RATE, Rig, Voices
from talkstream.tests.model_loaders.test_multitalk import write_form
from talkstream.tests.nodes.test_use_model import fp8

pytestmark = pytest.mark.host


def own_profile(golden: MultiTalkGolden) -> dict[str, str]:
    """InfiniteTalk's profile as a file's metadata; the golden's texts have 32 rows, its clip nine latents."""
    profile = dataclasses.replace(
        INFINITETALK, chunk=9, condition_latents=9, text_rows=golden.config["text_len"]
    )
    return {METADATA_KEY: profile.to_json()}


def write_pair(golden: MultiTalkGolden, folder) -> dict[str, Path]:
    """The weights as InfiniteTalk is published, base and audio part."""
    state = {key[3:]: value.contiguous() for key, value in golden.tensors.items() if key.startswith("sd.")}
    paths = {"path": folder / "wan.safetensors", "audio": folder / "audio.safetensors"}
    for name, path in paths.items():
        part = {key: value for key, value in state.items() if is_audio(key) == (name == "audio")}
        save_file(part, path, metadata=own_profile(golden) if name == "path" else None)
    return paths


@pytest.fixture(scope="module")
def rig(golden_file) -> Rig:
    return Rig(golden_file("infinitetalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def pair(rig, tmp_path_factory) -> dict[str, Path]:
    return write_pair(rig.golden, tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def grafted(host, pair):
    """The MODEL in float32; FlashTalk's golden holds the same weights as InfiniteTalk's."""
    from talkstream.nodes.host.multitalk_student import load_multitalk

    return load_multitalk(**pair, precision="fp32")[0]


def loaded(model) -> None:
    import comfy.model_management

    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])


def opened(model, golden: MultiTalkGolden):
    """The MODEL loaded, as a network with a golden's texts and CLIP vision tokens."""
    from talkstream.nodes.host.multitalk import HostSpeakerNetwork

    loaded(model)
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


def core_pair(pair):
    """A Wan MODEL without our forward and core's MODEL_PATCH, which its loader makes 40 heads wide."""
    import comfy.ops
    from comfy_extras.nodes_model_patch import MultiTalkModelPatch

    from talkstream.nodes.host import memory
    from talkstream.nodes.host.multitalk_student import load_network

    plain = load_network(str(pair["path"]), str(pair["audio"]), "fp32")
    patch = MultiTalkModelPatch(
        intermediate_dim=8, in_dim=256, out_dim=48, num_layers=3, operations=comfy.ops.manual_cast
    )
    patch.load_state_dict(open_multitalk(**pair).audio_tensors(), strict=True)
    return plain, memory.module_patcher(patch.float())


def test_the_hosts_own_audio_patch(host, rig, pair, golden_file):
    """Core's split pair, MODEL and MODEL_PATCH, through Use Model as Student: the same steps."""
    from talkstream.nodes.host.adopt import use_as_student
    from talkstream.nodes.host.graft import PROFILE_KEY

    plain, wire = core_pair(pair)
    patched, text = use_as_student(plain, pair["path"], profile="auto", patch=wire)
    assert "its audio part from the MODEL_PATCH" in text and "profile infinitetalk: a network and" in text
    patched.set_attachments(
        PROFILE_KEY, dataclasses.replace(patched.get_attachment(PROFILE_KEY), text_rows=32)
    )
    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    flashtalk_steps(patched, golden, [(0, 0), (1, 3)])
    with pytest.raises(ValueError, match="there is no profile 'livetalk'|profile 'livetalk' is of another"):
        use_as_student(plain, pair["path"], profile="livetalk", patch=wire)
    del wire.model.blocks[-1]
    with pytest.raises(ValueError, match="for 2 layers of width 256, the MODEL has 3 of 256"):
        use_as_student(plain, pair["path"], profile="auto", patch=wire)


def test_an_audio_file_behind_another_loaders_model(host, rig, pair, golden_file):
    """InfiniteTalk's own file through Use Model as Student: the same steps; a Wan network alone is no audio part."""
    from talkstream.nodes.host.adopt import use_as_student
    from talkstream.nodes.host.graft import PROFILE_KEY
    from talkstream.nodes.host.multitalk_student import load_network

    plain = load_network(str(pair["path"]), str(pair["audio"]), "fp32")
    student, text = use_as_student(plain, pair["audio"], profile="auto")
    assert "34 audio tensors from audio.safetensors" in text and "profile infinitetalk: its form" in text
    student.set_attachments(
        PROFILE_KEY, dataclasses.replace(student.get_attachment(PROFILE_KEY), text_rows=32)
    )
    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    flashtalk_steps(student, golden, [(0, 1)])
    with pytest.raises(
        ValueError, match="wan.safetensors: the file has no audio part of the MultiTalk family"
    ):
        use_as_student(plain, pair["path"], profile="auto")


@pytest.mark.parametrize("scaled", [None, "old", "listed"])
def test_fp8_files(host, golden_file, tmp_path, scaled):
    """Plain, scaled and listed fp8, network and audio part: the recorded steps within fp8's own error."""
    from talkstream.nodes.host.graft import PROFILE_KEY
    from talkstream.nodes.host.multitalk import audio_part
    from talkstream.nodes.host.multitalk_student import load_multitalk

    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    state = {key[3:]: value.contiguous() for key, value in golden.tensors.items() if key.startswith("sd.")}
    save_file(state, tmp_path / "whole.safetensors")
    small = fp8(tmp_path / "whole.safetensors", tmp_path / "fp8.safetensors", scaled=scaled)
    model, text = load_multitalk(small)
    assert "of the audio part, from 1 file" in text
    profile = dataclasses.replace(model.get_attachment(PROFILE_KEY), text_rows=golden.config["text_len"])
    model.set_attachments(PROFILE_KEY, profile)
    expected = golden["chunk0.step0.pred"]
    loaded(model)  # outside inference mode, as the weights were made
    with torch.inference_mode(), opened(model, golden) as network:
        made = network.velocity(
            torch.cat([golden["chunk0.step0.x_in"][None], golden["in.y"]], dim=1),
            timestep=1000.0,
            audio_tokens_BTE=chunk_tokens(audio_part(model), [golden["in.audio_raw"]], 0, 33),
        )
    error = float((made[0] - expected).abs().max() / expected.abs().max())
    assert 1e-4 < error < 0.15


@pytest.mark.parametrize("form", ["shards: one of them", "merged, other spelling", "pair with shards"])
def test_flashtalk_closed_loop_from_released_files(host, golden_file, tmp_path, monkeypatch, form):
    """Load Student, Stream Chunks, session: two chunks within 1e-3, from recorded noise and features."""
    from talkstream.nodes import plan, sessions
    from talkstream.nodes.host.graft import profile_of
    from talkstream.nodes.host.multitalk import audio_part
    from talkstream.nodes.host.student import load_student
    from talkstream.nodes.types import Reference, Speech

    golden = MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))
    codec = StubVAE(golden)
    state = {key[3:]: value.contiguous() for key, value in golden.tensors.items() if key.startswith("sd.")}
    files = write_form(form, state, tmp_path / "files")
    path, base = (files["audio"], files["path"]) if "audio" in files else (files["path"], None)
    model, text = load_student(path, profile="flashtalk", precision="fp32", base=base)
    assert "profile flashtalk: chosen by you" in text
    model.set_attachments("talkstream_profile", dataclasses.replace(profile_of(model), text_rows=32))

    picture = golden["in.cond_image"][:, :, 0]
    speech = Speech(profile_of(model), torch.zeros(1, 56 * 640), RATE, None, "whole", 0.0)
    reference = Reference(
        encode_conditioning(picture, codec, latents=9).latent_BCTHW,
        48,
        32,
        picture_BCHW=picture,
        image_BMC=golden["in.clip_fea"].reshape(1, 257, 1280),
    )
    stream = plan.plan_stream(
        model,
        speech,
        reference,
        conditioning=[[golden["in.context"][None], {}]],
        sigmas=None,
        cache=None,
        seed=0,
    )
    voices = Voices(audio_part(model), [golden["in.audio_raw"]], offset=5)
    monkeypatch.setattr(sessions, "open_speech", lambda _stream: voices)
    draws = {(c, 0): golden[f"chunk{c}.noise_init"][None] for c in (0, 1)}
    draws |= {(c, s + 1): golden[f"chunk{c}.step{s}.noise"][None] for c in (0, 1) for s in range(3)}
    loaded(model)
    with torch.inference_mode(), sessions.open_network(stream) as network:
        session = sessions.open_session(
            stream,
            network,
            pictures=ChunkPictures(codec, picture, colour_match=1.0),
            noise=RecordedNoise(draws),
            on_step=lambda step, x0: None,
        )
        for c, part in enumerate(session.chunks()):
            close(part.latent_BCTHW[0], golden[f"chunk{c}.latent_out"], 1e-3)
            shown = session.pictures.of(part.latent_BCTHW)[0, :, part.skip : part.skip + part.frames]
            close(shown, golden[f"chunk{c}.video_out"], 1e-3)
    assert c == 1


@pytest.fixture(scope="module")
def echo(host, golden_file, tmp_path_factory):
    """EchoTorrent's golden and its MODEL in one number format, made once for each."""
    from talkstream.nodes.host.multitalk_student import load_multitalk

    path, folder, made = golden_file("echotorrent_tiny.safetensors"), tmp_path_factory.mktemp("echo"), {}

    def of(dtype: torch.dtype):
        if dtype not in made:
            rig = EchoRig(path, dtype)
            made[dtype] = rig, load_multitalk(**write_pair(rig.golden, folder), precision="fp32")[0]
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


def stream_of(rig: EchoRig, model, variant: str):
    """What Stream Chunks would hand on, of a golden's inputs."""
    from talkstream.nodes.types import CacheChoice, Reference, Speech, Stream

    golden, own = rig.golden, rig.session(variant)
    profile = dataclasses.replace(own.spec.profile, text_rows=32)
    return own, Stream(
        model=model,
        profile=profile,
        spec=dataclasses.replace(own.spec, profile=profile),
        speech=Speech(profile, torch.zeros(1, own.spec.samples), own.spec.sample_rate, None, "whole", 0.0),
        reference=Reference(golden["in.y_cond"][None], 48, 32, image_BMC=golden["in.clip_fea"][None]),
        text_BMD=golden["in.context"][None],
        cache=CacheChoice(),
        seed=0,
        take=None,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 5e-5)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_echotorrent_in_closed_loop(echo, monkeypatch, variant, dtype, tolerance):
    """Per-step caches, every layer pattern and both sinks, by the nodes' own session on the host's modules.

    The oracle's latents; its audio tokens stand in for a voice.
    """
    import comfy.model_management

    from talkstream.nodes import sessions

    rig, model = echo(dtype)
    own, stream = stream_of(rig, model, variant)
    monkeypatch.setattr(sessions, "open_speech", lambda stream: rig)
    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    with torch.inference_mode(), sessions.open_network(stream) as network:
        session = sessions.open_session(stream, network, noise=own._noise, on_step=lambda step, x0: None)
        made = torch.stack([chunk.latent_BCTHW[0].double() for chunk in session.chunks()])
    close(made, rig.golden.tensors[f"{variant}.latents"], tolerance)


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_one_chunk_without_past_is_the_plain_forward(echo, pattern):
    """No history, no sink, one chunk, at every step: the host's modules give InfiniteTalk's forward bit for bit."""
    rig, model = echo(torch.float32)
    x = torch.cat([rig.golden["in.noise_init"][0][None], rig.reference.channels(0, 4)], dim=1)
    with torch.inference_mode(), opened(model, rig.golden) as network:
        spec = CacheSpec(chunk=4, sink=0, history=pattern, mode="per_step", steps=2)
        cache = network.make_cache(spec, (2, 3))
        cache.begin_chunk(4)
        for step, timestep in enumerate((1000.0, 625.0)):
            cache.begin_pass(step)
            call = {"timestep": timestep, "audio_tokens_BTE": rig.tokens(0, 4)}
            assert torch.equal(network.velocity(x, **call, cache=cache), network.velocity(x, **call))


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
