"""Every released form of a MultiTalk student gives the same tensors and the same numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.build import build_network
from talkstream.model_loaders.multitalk import (
    is_audio,
    open_multitalk,
    open_multitalk_audio,
    read_multitalk_config,
)
from talkstream.networks.multitalk_profiles import ECHOTORRENT, FLASHTALK
from talkstream.networks.profile import LIVETALK, METADATA_KEY
from talkstream.tests.fakes import SHARDS, write_sharded
from talkstream.tests.golden.multitalk_golden import MultiTalkGolden, chunk_tokens


@pytest.fixture(scope="module")
def golden(golden_file) -> MultiTalkGolden:
    return MultiTalkGolden(golden_file("flashtalk_tiny.safetensors"))


@pytest.fixture(scope="module")
def state(golden) -> dict[str, torch.Tensor]:
    """The weights as they are stored, bf16."""
    return {key[3:]: value.contiguous() for key, value in golden.tensors.items() if key.startswith("sd.")}


def write_form(form, state, folder):
    """One released form; returns the arguments for open_multitalk."""
    folder.mkdir(exist_ok=True)
    base = {name: value for name, value in state.items() if not is_audio(name)}
    audio = {name: value.float() for name, value in state.items() if is_audio(name)}
    stem = "diffusion_pytorch_model"
    if form == "shards: index":
        return {"path": write_sharded(state, folder, stem)}
    if form == "shards: folder":
        return {"path": write_sharded(state, folder, stem).parent}
    if form == "shards: one of them":
        write_sharded(state, folder, stem)
        return {"path": folder / f"{stem}-00002-of-0000{SHARDS}.safetensors"}
    if form in ("merged", "merged, other spelling"):
        if "other" in form:
            state = {name.replace("audio_proj.", "multitalk_audio_proj."): x for name, x in state.items()}
            state = {f"model.diffusion_model.{name}": x for name, x in state.items()}
        save_file(state, folder / "merged.safetensors")
        return {"path": folder / "merged.safetensors"}
    save_file(audio, folder / "infinitetalk.safetensors")
    if form == "pair with shards":
        return {
            "path": write_sharded(base, folder / "wan", stem),
            "audio": folder / "infinitetalk.safetensors",
        }
    save_file(base, folder / "wan.safetensors")
    return {"path": folder / "wan.safetensors", "audio": folder / "infinitetalk.safetensors"}


FORMS = (
    "shards: index", "shards: folder", "shards: one of them", "merged", "merged, other spelling", "pair",
    "pair with shards",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_tensors(state, tmp_path, form):
    """Names, counts and bits; the audio part apart from the Wan network; a profile and why."""
    student = open_multitalk(**write_form(form, state, tmp_path / "files"))
    wan, audio = student.wan_tensors(), student.audio_tensors()
    assert set(wan) | set(audio) == set(state) and len(audio) == 10 + 3 * 8
    assert all(torch.equal(value.float(), state[name].float()) for name, value in (wan | audio).items())
    pair = form.startswith("pair")
    assert student.profile.name == ("infinitetalk" if pair else "flashtalk")
    files = 1 + pair if "shards" not in form else SHARDS + pair
    assert (
        f"119 tensors of Wan image-to-video and 34 of the audio part, from {files} file" in student.describe()
    )
    assert student.config.multitalk.slots == 12 and student.config.multitalk.window == 5


def test_a_loaded_network_makes_the_recorded_step(golden, state, tmp_path):
    """From shards to velocity, within 5e-5."""
    student = open_multitalk(write_sharded(state, tmp_path, "model"))
    model = build_network(dict(student.tensors), student.config, dtype=torch.float32)
    made = model(
        torch.cat([golden["chunk0.step1.x_in"][None], golden["in.y"]], dim=1),
        timestep_BT=golden["chunk0.step1.t"][None],
        text_BMD=golden.text(model),
        audio_tokens_BTE=chunk_tokens(model, [golden["in.audio_raw"]], 0, 33),
    )
    torch.testing.assert_close(made[0], golden["chunk0.step1.pred"], rtol=0, atol=5e-5)


def test_profiles_by_metadata_form_and_choice(state, tmp_path):
    """The file's own goes first, and a choice against it is refused; without one the choice goes before the form."""
    save_file(state, tmp_path / "own.safetensors", metadata={METADATA_KEY: ECHOTORRENT.to_json()})
    for choice in (None, "echotorrent"):
        own = open_multitalk(tmp_path / "own.safetensors", choice=choice).profile
        assert own.history == (12, 0) and own.source == "the file's own metadata"
    with pytest.raises(ValueError, match="own.safetensors: the file says by its metadata that it is 'echotorrent', "
                       "not 'flashtalk'; set profile to auto"):  # fmt: skip
        open_multitalk(tmp_path / "own.safetensors", choice="flashtalk")
    with pytest.raises(
        ValueError, match="no profile 'livetalk' of this family; choose one of echotorrent, flash"
    ):
        open_multitalk(tmp_path / "own.safetensors", choice="livetalk")
    save_file(state, tmp_path / "bare.safetensors")
    for choice, motion, why in (
        (None, 5, "its form: one whole network, as FlashTalk is; choose another if it is not"),
        ("flashtalk", 5, "chosen by you"),
        ("infinitetalk", 9, "chosen by you; by its form it would be flashtalk"),
    ):
        profile = open_multitalk(tmp_path / "bare.safetensors", choice=choice).profile
        assert (profile.motion_frames, profile.source) == (motion, why)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIVETALK.to_json(), "of the family audiopack and hears 1 x 14 x 768 numbers a frame, the tensors are"),
        (replace(FLASHTALK, speech=replace(FLASHTALK.speech, window_frames=7)).to_json(), "hears 7 x 12 x 768 numbers"),
        ("{}", "the profile in the file's metadata cannot be read"),
    ],
)  # fmt: skip
def test_a_profile_of_another_network_is_refused(state, tmp_path, text, message):
    """Also in the audio part alone, behind another loader's MODEL."""
    save_file(state, tmp_path / "own.safetensors", metadata={METADATA_KEY: text})
    with pytest.raises(ValueError, match=message):
        open_multitalk(tmp_path / "own.safetensors")
    network = read_multitalk_config({name: tuple(tensor.shape) for name, tensor in state.items()})
    with pytest.raises(ValueError, match=message):
        open_multitalk_audio(tmp_path / "own.safetensors", network)


def test_scaled_fp8_is_recognised(state, tmp_path):
    """Scales beside the weights are no strangers."""
    name = "blocks.0.ffn.0.weight"
    quantised = {
        **state,
        name: state[name].to(torch.float8_e4m3fn),
        name[:-6] + "scale_weight": torch.ones(1),
    }
    save_file(quantised, tmp_path / "fp8.safetensors")
    student = open_multitalk(tmp_path / "fp8.safetensors")
    assert student.quantised and student.tensors[name].dtype == torch.float8_e4m3fn


def test_what_is_missing_is_named(state, tmp_path):
    """Halves alone, a shard that is not there, a network of another kind, tensors cut out."""
    base = {name: value for name, value in state.items() if not is_audio(name)}
    audio = {name: value for name, value in state.items() if is_audio(name)}
    cases = {
        "base": (base, "without an audio part; give the InfiniteTalk file"),
        "audio": (audio, "audio part of an InfiniteTalk or MultiTalk student alone"),
        "text": (
            {k: v for k, v in state.items() if "img" not in k},
            "36 input channels and does not read CLIP",
        ),
        "cut": ({k: v for k, v in state.items() if "blocks.1.norm_x" not in k}, "2 missing"),
    }
    for name, (tensors, message) in cases.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match=message):
            open_multitalk(tmp_path / f"{name}.safetensors")
    index = write_sharded(state, tmp_path / "shards", "model")
    (index.parent / "model-00003-of-00004.safetensors").unlink()
    with pytest.raises(ValueError, match="1 of which are missing .model-00003-of-00004.safetensors"):
        open_multitalk(index)
    with pytest.raises(ValueError, match="4 safetensors files and no index"):
        open_multitalk(tmp_path)
