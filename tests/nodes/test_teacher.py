"""OmniAvatar and OmniAvatar-LS through core's sampler, against references and the formula of guidance."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from talkstream.networks.audio_pack import pack_vectors
from talkstream.tests import fakes
from talkstream.tests.golden.wan_golden import Golden, build, close

pytestmark = pytest.mark.host

SIGMA, GUIDANCE = 0.769, 4.5


@pytest.fixture(scope="module")
def golden(golden_file) -> Golden:
    return Golden(golden_file("lipforcing_tiny.safetensors"))


@pytest.fixture(scope="module")
def known(golden):
    latents = golden["in.noise"].shape[2]
    mask = (1 - golden["in.mask"])[None, None, None].expand(1, 1, latents, -1, -1)
    reference = golden["in.ref_latent"].expand(-1, -1, latents, -1, -1)
    return torch.cat([reference, mask, golden["in.masked_video"], golden["in.ref_sequence"]], dim=1)


@pytest.fixture(scope="module")
def teacher(host, golden, tmp_path_factory):
    from talkstream.nodes.host.student import load_student

    path = tmp_path_factory.mktemp("teacher") / "omniavatar_ls.safetensors"
    save_file(golden.state(), str(path))
    return load_student(path, profile="omniavatar_ls", precision="fp32")[0]


def one_step(clip, golden, *, cfg: float, negative_BMD) -> torch.Tensor:
    """Core's Euler from the golden's noise at its level straight to the end: the guided x0, normalised."""
    import comfy.sample
    import comfy.samplers

    from talkstream.nodes.host.teacher import normalised

    noise = golden["in.noise"] / SIGMA  # core scales it
    with torch.inference_mode():
        made = comfy.sample.sample_custom(
            clip,
            noise,
            cfg,
            comfy.samplers.ksampler("euler"),
            torch.tensor([SIGMA, 0.0]),
            [[golden["in.text_embeds"], {}]],
            [[negative_BMD, {}]],
            torch.zeros_like(noise),
            seed=0,
        )
    return normalised(made)


def test_the_recorded_clip_without_and_with_guidance(golden, known, teacher):
    """cfg 1 is the recorded clip; cfg 4.5 leads away from another text with null audio."""
    from talkstream.nodes.host.graft import audio_modules
    from talkstream.nodes.host.teacher import attach_clip

    model = build(golden)
    with torch.no_grad():
        tokens = audio_modules(teacher).audio_proj(pack_vectors(golden["in.audio_emb"], prefix_copies=3))
    clip = attach_clip(teacher, known_BCTHW=known, tokens_BTE=tokens)
    other = golden["in.text_embeds"].flip(1)
    expected = golden["out.bidirectional_t769_x0"]
    close(one_step(clip, golden, cfg=1.0, negative_BMD=other), expected, 2e-5)
    silent = model.audio_proj(pack_vectors(torch.zeros_like(golden["in.audio_emb"]), prefix_copies=3))
    x = golden["in.noise"]
    with torch.no_grad():
        velocity = model(
            torch.cat([x, known], dim=1),
            timestep_BT=torch.full((1, 1), 1000 * SIGMA, dtype=torch.float64),
            text_BMD=other,
            audio_tokens_BTE=silent,
        )
    negative = x - SIGMA * velocity
    guided = negative + GUIDANCE * (expected - negative)
    assert float((guided - expected).abs().max()) > 0.1
    close(one_step(clip, golden, cfg=GUIDANCE, negative_BMD=other), guided, 2e-4)


def test_the_mask_at_the_size_of_the_latents():
    from talkstream.nodes.host.teacher import latent_mask

    mask = torch.zeros(1, 16, 16)
    mask[:, 8:] = 1
    small = latent_mask(mask, height=4, width=4)
    assert small.shape == (1, 1, 1, 4, 4)
    assert torch.equal(small[0, 0, 0].mean(1), torch.tensor([0.0, 0.0, 1.0, 1.0]))


def test_latents_of_another_kind_or_length_are_refused(host):
    from talkstream.nodes.lesson import check_latents

    assert check_latents({"samples": torch.zeros(1, 16, 7, 2, 2)}, 5, "source").shape[2] == 5
    with pytest.raises(ValueError, match="has 4 latents, the voice needs 5 .17 frames"):
        check_latents({"samples": torch.zeros(1, 16, 4, 2, 2)}, 5, "source")
    with pytest.raises(ValueError, match=r"expected \(1, 16, T, H, W\)"):
        check_latents({"samples": torch.zeros(1, 4, 8, 8)}, 5, "source")


@pytest.fixture(scope="module")
def portrait_teacher(host, tmp_path_factory):
    """A small OmniAvatar as the host's MODEL, and as our own network."""
    from talkstream.model_loaders.build import build_network, open_student
    from talkstream.nodes.host.student import load_student

    path = tmp_path_factory.mktemp("teacher") / "omniavatar.safetensors"
    fakes.write_tiny_audiopack(path, ffn_dim=128)
    student = open_student(path, choice="omniavatar")
    return (
        load_student(path, profile="omniavatar", precision="fp32")[0],
        build_network(student.tensors, student.config),
    )


def test_a_portraits_clip_starts_with_it_and_goes_on_as_the_network_says(portrait_teacher):
    """One step of core's Euler, whose first latent is the picture; the others are those of our own network."""
    from talkstream.nodes.host.teacher import attach_clip
    from talkstream.nodes.lesson import known_of_portrait
    from talkstream.nodes.types import Reference

    teacher, model = portrait_teacher
    picture, noise = torch.randn(1, 16, 1, 4, 4), torch.randn(1, 16, 3, 4, 4)
    text, tokens = torch.randn(1, 5, 4096), torch.randn(1, 3, 32)
    known = known_of_portrait(Reference(picture, 32, 32), 3)
    assert known.shape == (1, 17, 3, 4, 4)
    assert known[0, 16, :, 0, 0].tolist() == [0.0, 1.0, 1.0]
    clip = attach_clip(teacher, known_BCTHW=known, tokens_BTE=tokens, first_BCTHW=picture)
    recorded = {"in.noise": noise, "in.text_embeds": text}
    held = torch.cat([picture, noise[:, :, 1:]], dim=2)
    with torch.no_grad():
        velocity = model(
            torch.cat([held, known], dim=1),
            timestep_BT=torch.full((1, 1), 1000 * SIGMA, dtype=torch.float64),
            text_BMD=text,
            audio_tokens_BTE=tokens,
        )
    expected = torch.cat([picture, (noise - SIGMA * velocity)[:, :, 1:]], dim=2)
    close(one_step(clip, recorded, cfg=1.0, negative_BMD=text), expected, 2e-5)
    guided = one_step(clip, recorded, cfg=GUIDANCE, negative_BMD=text.flip(1))
    close(guided[:, :, :1], picture, 2e-5)
    assert float((guided - expected)[:, :, 1:].abs().max()) > 0.01


def test_each_teacher_asks_for_its_own_inputs(host):
    from talkstream.nodes.lesson import known_of_portrait, known_of_video

    with pytest.raises(ValueError, match="connect Encode Reference to reference"):
        known_of_portrait(None, 3)
    with pytest.raises(ValueError, match="connect source, masked and mask"):
        known_of_video({"samples": torch.zeros(1, 16, 3, 4, 4)}, None, None, 3)
