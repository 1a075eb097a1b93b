"""The wrong file given as a student, as users do it: one sentence, no traceback of the tensor library."""

from __future__ import annotations

import pytest
import torch

from talkstream.model_loaders import build, companions
from talkstream.model_loaders.build import open_student
from talkstream.tests import fakes, layouts

SIZES = {"dim": 128, "ffn_dim": 64, "layers": 6, "text_dim": 32}
STUDENT = layouts.student(**SIZES, in_dim=33, audio_in=896)
WRONG_FILES = {
    "a Wan VAE": layouts.wan_vae(dim=4),
    "a LoRA": layouts.lora(dim=16, layers=2, rank=2),
    "a T5 text encoder": {"encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4), "shared.weight": (8, 4)},
    "a wav2vec2 speech encoder": dict.fromkeys(layouts.wav2vec2_base(), (2,)),
    "a Wan text-to-video model": layouts.wan(**SIZES, in_dim=16),
    "a Wan image-to-video model": layouts.image_to_video(dim=128, ffn_dim=64, layers=2),
    "an InfiniteTalk or MultiTalk audio patch": dict.fromkeys(layouts.multitalk_audio(layers=2), (2,)),
}

PARTS_OF_A_STUDENT = {"a LoRA", "an InfiniteTalk or MultiTalk audio patch"}


def sentence_for(path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        open_student(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)), "the file comes first"
    assert "\n" not in sentence and len(sentence) < 420 + len(str(path))
    return sentence


@pytest.mark.parametrize("kind", WRONG_FILES)
def test_another_kind_of_file(tmp_path, kind):
    path = fakes.write_layout(tmp_path / "student.safetensors", WRONG_FILES[kind])
    assert f"is {kind}" in sentence_for(path)


@pytest.mark.parametrize("kind", sorted(WRONG_FILES.keys() - PARTS_OF_A_STUDENT))
def test_where_to_get_a_student(tmp_path, kind):
    sentence = sentence_for(fakes.write_layout(tmp_path / "student.safetensors", WRONG_FILES[kind]))
    assert "model.safetensors of GAIR/LiveTalk-1.3B-V0.1" in sentence
    assert "models/diffusion_models" in sentence


def test_where_to_get_the_rest_of_a_student(tmp_path, monkeypatch):
    """Known by its width and channels; here the tiny one passes for the published one."""
    assert companions.published_as(dim=1536, in_dim=33) is companions.LIVETALK
    assert companions.published_as(dim=1536, in_dim=65) is None
    monkeypatch.setattr(
        build,
        "published_as",
        lambda *, dim, in_dim: companions.LIVETALK if (dim, in_dim) == (128, 33) else None,
    )
    layout = dict(list(STUDENT.items())[:-3])
    sentence = sentence_for(fakes.write_layout(tmp_path / "student.safetensors", layout))
    assert sentence.endswith(companions.LIVETALK.line())


def test_another_kind_of_file_behind_a_wrapper(tmp_path):
    """The host's own exports put names behind model.diffusion_model."""
    wan = {f"model.diffusion_model.{name}": shape for name, shape in layouts.wan(**SIZES, in_dim=16).items()}
    assert "a Wan text-to-video model" in sentence_for(fakes.write_layout(tmp_path / "w.safetensors", wan))


@pytest.mark.parametrize("share", [0.999, 0.5, 0.05, 0.0001])
def test_truncated_file(tmp_path, share):
    path = fakes.write_layout(tmp_path / "student.safetensors", STUDENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "cut off" in sentence_for(path)


def test_missing_keys(tmp_path):
    layout = dict(list(STUDENT.items())[:-3])
    path = fakes.write_layout(tmp_path / "student.safetensors", layout)
    assert "3 missing" in sentence_for(path)


def test_pickle_under_the_name_of_a_checkpoint(tmp_path):
    path = tmp_path / "student.safetensors"
    torch.save({"weight": torch.zeros(2)}, path)
    assert "a PyTorch pickle under the name" in sentence_for(path)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "student.pt")
    assert "no file that we know (its first tensors are weight)" in sentence_for(tmp_path / "student.pt")


def test_no_file_at_all(tmp_path):
    assert "does not exist" in sentence_for(tmp_path / "student.safetensors")
