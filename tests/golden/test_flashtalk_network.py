"""FlashTalk's network against the reference: every recorded step, and the parts of one step."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.multitalk import MultiTalkConfig, project_speech
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, build, chunk_tokens, close, windows
from talkstream.tests.golden.multitalk_taps import check_taps, tapped

STRIDE, FRAMES = 28, 33


@pytest.fixture(scope="module")
def golden(golden_file) -> MultiTalkGolden:
    return MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def model(golden) -> WanModel:
    return build(golden)


def velocity(golden, model, chunk: int, step: int) -> torch.Tensor:
    step_name = f"chunk{chunk}.step{step}"
    return model(
        torch.cat([golden[f"{step_name}.x_in"][None], golden["in.y"]], dim=1),
        timestep_BT=golden[f"{step_name}.t"][None],
        text_BMD=golden.text(model),
        audio_tokens_BTE=chunk_tokens(model, [golden["in.audio_raw"]], STRIDE * chunk, FRAMES),
    )[0]


@pytest.mark.parametrize("chunk", [0, 1])
@pytest.mark.parametrize("step", range(4))
def test_every_recorded_step(golden, model, chunk, step):
    """Velocity within 5e-5, each step from the recorded input."""
    close(velocity(golden, model, chunk, step), golden[f"chunk{chunk}.step{step}.pred"], 5e-5)


@pytest.mark.parametrize("chunk", [0, 1])
def test_parts_of_a_step(golden, model, chunk):
    """Outputs of every recorded sub-module and block within 5e-5."""
    with tapped(model, model) as seen:
        velocity(golden, model, chunk, 0)
    check_taps(seen, golden, f"tap.chunk{chunk}.step0.")


@pytest.mark.parametrize("chunk", [0, 1])
def test_speech_to_audio_tokens(golden, model, chunk):
    """The first latent by its own projection, later ones by theirs; both within 5e-5."""
    heard = windows(golden["in.audio_raw"], STRIDE * chunk, FRAMES)
    expected = golden[f"tap.chunk{chunk}.step0.audio_proj"]
    close(project_speech(model.audio_proj, heard, first_alone=True), expected, 5e-5)
    close(project_speech(model.audio_proj, heard[:, 1:], first_alone=False), expected[:, 1:], 5e-5)
    with pytest.raises(ValueError, match="32 frames of speech do not fill whole latents; give 4 n \\+ 1"):
        project_speech(model.audio_proj, heard[:, 1:], first_alone=True)


def test_tensors_of_the_published_size(golden):
    """1303 tensors of Wan image-to-video and 330 of the audio part, 18.88 billion numbers, named as here."""
    config = WanConfig(dim=5120, in_dim=36, ffn_dim=13824, num_heads=40, num_layers=40, text_dim=4096,
                       image_in=1280, multitalk=MultiTalkConfig())  # fmt: skip
    with torch.device("meta"):
        tensors = WanModel(config).state_dict()
    audio = {
        k for k in tensors if k.startswith("audio_proj.") or ".audio_cross_attn." in k or ".norm_x." in k
    }
    assert (len(tensors) - len(audio), len(audio)) == (1303, 330)
    assert round(sum(x.numel() for x in tensors.values()) / 1e9, 2) == 18.88
    assert round(sum(tensors[k].numel() for k in audio) * 4 / 1e9, 2) == 9.95
    tiny = {k for k in golden.state() if k.startswith("blocks.0.") or not k.startswith("blocks.")}
    assert {k for k in tensors if k.startswith("blocks.0.") or not k.startswith("blocks.")} == tiny
    assert tensors["audio_proj.proj1_vf.weight"].shape == (512, 73728)
    assert tensors["blocks.39.audio_cross_attn.kv_linear.weight"].shape == (10240, 768)
