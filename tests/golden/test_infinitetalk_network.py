"""InfiniteTalk's network against the reference: one voice, two voices with three masks, the guidance branches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talkstream.networks import speaker_attention
from talkstream.networks.multitalk import project_speech
from talkstream.networks.wan import WanModel
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, build, chunk_tokens, close
from talkstream.tests.golden.multitalk_taps import check_taps, tapped

STRIDE, FRAMES, PADDED = 24, 33, 60


@pytest.fixture(scope="module")
def golden(golden_file) -> MultiTalkGolden:
    return MultiTalkGolden(golden_file("infinitetalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def model(golden) -> WanModel:
    return build(golden)


def token_masks(golden, run: str) -> Tensor | None:
    """Latent-sized masks on the token grid; a single voice takes none."""
    if run == "single":
        return None
    return golden[f"{run}.ref_target_masks"][:, ::2, ::2].flatten(1)


def track(golden, name: str) -> Tensor:
    """Features with the mirrored tail behind them."""
    features = golden[name]
    missing = PADDED - len(features)
    return torch.cat([features, features[-missing:].flip(0)])


def tracks(golden, run: str) -> list[Tensor]:
    names = ["in.audio_raw1"] if run == "single" else ["in.audio_raw1", "in.audio_raw2"]
    return [track(golden, name) for name in names]


def velocity(golden, model, run, chunk, step, branch) -> Tensor:
    silent = branch in ("drop_audio", "uncond")
    text = "in.context_null" if branch in ("drop_text", "uncond") else "in.context"
    heard = [torch.zeros(FRAMES, 12, 768)] if silent else tracks(golden, run)
    name = f"{run}.chunk{chunk}.step{step}"
    return model(
        torch.cat([golden[f"{name}.x_in"][None], golden[f"{run}.y"]], dim=1),
        timestep_BT=golden[f"{name}.t"][None],
        text_BMD=golden.text(model, text),
        audio_tokens_BTE=chunk_tokens(model, heard, 0 if silent else STRIDE * chunk, FRAMES),
        masks_PL=None if silent else token_masks(golden, run),
    )[0]


CALLS = [
    (run, chunk, step, branch)
    for run, chunks, branches in (
        ("single", 2, ("cond", "drop_audio")),
        ("double", 2, ("cond", "drop_audio")),
        ("double_cfg", 1, ("cond", "drop_text", "uncond")),
    )
    for chunk in range(chunks)
    for step in range(2)
    for branch in branches
]


@pytest.mark.parametrize(("run", "chunk", "step", "branch"), CALLS)
def test_every_recorded_call(golden, model, run, chunk, step, branch):
    """Velocity within 5e-5, each call from the recorded input."""
    expected = golden[f"{run}.chunk{chunk}.step{step}.pred_{branch}"]
    close(velocity(golden, model, run, chunk, step, branch), expected, 5e-5)


@pytest.mark.parametrize("call", [0, 4])
@pytest.mark.parametrize("run", ["single", "double"])
def test_parts_of_a_step(golden, model, run, call):
    """Outputs of every recorded sub-module and block within 5e-5, with one voice and with two."""
    with tapped(model, model) as seen:
        velocity(golden, model, run, call // 4, 0, "cond")
    check_taps(seen, golden, f"tap.{run}.call{call}.")


def test_maps_of_one_voice(golden):
    """The reference makes them for one voice too: with every region the whole picture they are all alike."""
    masks = golden["single.ref_target_masks"][:, ::2, ::2].flatten(1)
    q, k = torch.randn(1, 54, 256), torch.randn(1, 6, 256)
    made = speaker_attention.attention_maps(q, k, masks, heads=2)[0]
    for call, block in ((0, 0), (0, 1), (0, 2), (4, 0), (4, 1), (4, 2)):
        close(made, golden[f"tap.single.call{call}.x_ref_attn_map.block{block}"], 1e-5)


@pytest.mark.parametrize("call", [0, 4])
def test_maps_and_positions_of_two_speakers(golden, model, call, monkeypatch):
    """Attention maps within 1e-5; positions of queries and keys within 1e-4 in every block."""
    maps, queries = [], []
    inner_maps, inner_positions = speaker_attention.attention_maps, speaker_attention.speaker_positions

    def keep_maps(*args, **options):
        maps.append(inner_maps(*args, **options))
        return maps[-1]

    def keep_positions(*args, **options):
        queries.append(inner_positions(*args, **options))
        return queries[-1]

    monkeypatch.setattr(speaker_attention, "attention_maps", keep_maps)
    monkeypatch.setattr(speaker_attention, "speaker_positions", keep_positions)
    velocity(golden, model, "double", call // 4, 0, "cond")
    masks = token_masks(golden, "double")
    assert len(maps) == len(queries) == 3
    for block in range(3):
        close(maps[block][0], golden[f"tap.double.call{call}.x_ref_attn_map.block{block}"], 1e-5)
        close(queries[block][0], golden[f"tap.double.call{call}.rope1d_pos.{2 * block}"], 1e-4)
        keys = speaker_attention.token_positions(64, masks).repeat(9)
        assert torch.equal(keys, golden[f"tap.double.call{call}.rope1d_pos.{2 * block + 1}"])


def test_mirrored_tail(golden):
    """The appended frames are the reference's."""
    appended = track(golden, "in.audio_raw1")[50:]
    assert torch.equal(appended, golden["aux.audio1_padded_tail"])


def test_masks_of_the_wrong_kind(golden, model):
    """Empty masks, masks of another grid and a missing background are refused in one sentence."""
    tokens = torch.zeros(1, 9, 64, 48)
    with pytest.raises(ValueError, match="mask 1 is empty"):
        speaker_attention.SpeakerAudio(tokens, model.blocks, torch.tensor([[1.0, 0], [0, 0], [0, 1]]))
    with pytest.raises(ValueError, match="got 2 masks; expected one for each of 2 to 4 speakers"):
        speaker_attention.SpeakerAudio(tokens, model.blocks, torch.ones(2, 6))
    with pytest.raises(ValueError, match="the masks have 4 tokens"):
        model(torch.zeros(1, 36, 9, 4, 6), timestep_BT=torch.zeros(1, 1), text_BMD=golden.text(model),
              audio_tokens_BTE=tokens, masks_PL=torch.ones(3, 4))  # fmt: skip
    with pytest.raises(ValueError, match="33 frames of speech"):
        project_speech(model.audio_proj, torch.zeros(1, 33, 5, 9216), first_alone=False)
