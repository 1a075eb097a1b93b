"""Another ear under a finished student: its features mean what the student knows, and read faces as well as before."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.speech_encoder import SpeechEncoder
from talkstream.training.export import export_student
from talkstream.training.hearing import lay_under, main, move_further
from talkstream.training.initialisation import initialise
from talkstream.training.sampling import load_student
from talkstream.training.speech import FaceRegressor, SpeechBank, faces_of, save_speech_bank

from .tiny_world import SPEECH, random_student

MINI = Path(__file__).parents[2] / "assets" / "diffusion_models" / "talkstream_mini.safetensors"


def _regressor(seed):
    regressor = FaceRegressor(SPEECH)
    initialise(regressor, torch.Generator().manual_seed(seed))
    return regressor.eval()


def _bank(clips=24, frames=61):
    """Sounds that tell of mouths and of eyes, with a pause in each clip."""
    random = np.random.default_rng(3)
    mouth = random.random((clips, frames, 5)).astype(np.float32)
    for clip, first in enumerate(random.integers(10, 40, clips)):
        mouth[clip, first : first + 15] = 0
    faces = faces_of(SpeechBank(np.empty(0), mouth)) + 0.05 * random.standard_normal((clips, frames, 6))
    return SpeechBank(np.repeat(faces, 4, axis=1).astype(np.float16), mouth)


def _mel(bank):
    return torch.from_numpy(bank.mel).float()


def test_the_same_ear_turned_is_turned_back():
    """Features of the same layer in other directions: least squares finds the first ones again."""
    known, bank = _regressor(1), _bank()
    turned = copy.deepcopy(known)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(2)))[0]
    with torch.no_grad():
        turned.encoder.out.weight.copy_(torch.einsum("ab,bch->ach", turn, known.encoder.out.weight))
        turned.encoder.out.bias.copy_(turn @ known.encoder.out.bias + 1)
        features = known.encoder(_mel(bank)).double()
        rows = torch.cat([features, torch.ones_like(features[..., :1])], dim=2).flatten(0, 1)
        reading = torch.linalg.lstsq(rows, torch.from_numpy(faces_of(bank)).double().flatten(0, 1)).solution
        turned.face.weight.copy_(reading[:-1].T @ turn.T.double())
        turned.face.bias.copy_(reading[-1] - turned.face.weight.double() @ torch.ones(8).double())
        laid = lay_under(turned, known.encoder, bank)
        assert (turned.encoder(_mel(bank)) - features).abs().max() > 0.5
        torch.testing.assert_close(laid(_mel(bank)).double(), features, rtol=0, atol=2e-3)


def test_faces_are_read_as_the_new_ear_reads_them():
    """By the reading that fits the features known before."""
    known, better, bank = _regressor(1), _regressor(5), _bank()
    before = copy.deepcopy(better.state_dict())
    with torch.no_grad():
        laid = lay_under(better, known.encoder, bank)
        features = known.encoder(_mel(bank)).double().flatten(0, 1)
        rows = torch.cat([features, torch.ones(len(features), 1)], dim=1)
        faces = torch.from_numpy(faces_of(bank)).double().flatten(0, 1)
        reading = torch.linalg.lstsq(rows, faces).solution
        read = laid(_mel(bank)).double() @ reading[:-1] + reading[-1]
        wanted = better(_mel(bank)).double()
    assert wanted.std() > 0.05
    torch.testing.assert_close(read, wanted, rtol=0, atol=2e-3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in better.state_dict().items())


@pytest.mark.parametrize("gain", [1.0, 1.3])
def test_tokens_move_further_from_their_mean(gain):
    student, bank = random_student(), _bank()
    with torch.no_grad():
        before = student.network.audio_proj(pack_vectors(student.encoder(_mel(bank))))
        move_further(student, bank, gain)
        after = student.network.audio_proj(pack_vectors(student.encoder(_mel(bank))))
    mean = before.mean((0, 1))
    torch.testing.assert_close(after, mean + gain * (before - mean), rtol=0, atol=1e-5)


def test_the_command_writes_a_student_that_loads(tmp_path, monkeypatch):
    """The Mini behind an untrained ear of more blocks: all else stays, its tokens are further apart."""
    old, profile = load_student(MINI)
    bank = _bank(clips=8)
    bank = SpeechBank(np.tile(bank.mel, (1, 1, 7))[..., : old.encoder.config.bins], bank.mouth)
    save_speech_bank(tmp_path / "speech.npz", bank)
    regressor = FaceRegressor(old.encoder.config)
    initialise(regressor, torch.Generator().manual_seed(0))
    (tmp_path / "ear").mkdir()
    torch.save({"stage": {"regressor": regressor.state_dict()}}, tmp_path / "ear" / "training.pt")
    options = f"--student {MINI} --out {tmp_path / 'new.safetensors'} --speech {tmp_path / 'speech.npz'}"
    monkeypatch.setattr(
        "sys.argv", ["hearing", *options.split(), "--encoder", str(tmp_path / "ear"), "--gain", "2"]
    )
    main()
    new, new_profile = load_student(tmp_path / "new.safetensors")
    assert new_profile == profile and isinstance(new.encoder, SpeechEncoder)
    changed = {n for n, t in new.state_dict().items() if not torch.equal(t, old.state_dict()[n])}
    assert {n for n in changed if n.startswith("network.")} == {
        "network.audio_proj.norm_out.weight",
        "network.audio_proj.norm_out.bias",
    }
    weight = old.network.audio_proj.norm_out.weight
    torch.testing.assert_close(new.network.audio_proj.norm_out.weight, 2 * weight, rtol=1e-3, atol=1e-3)
    assert any(n.startswith("encoder.blocks.") for n in changed)


def test_of_two_students_the_mean_is_taken(tmp_path, monkeypatch):
    one, profile = load_student(MINI)
    two = copy.deepcopy(one)
    with torch.no_grad():
        two.network.audio_cond_projs[0].bias += 1
    export_student(tmp_path / "two.safetensors", two.network, two.encoder, profile)
    bank = _bank(clips=2)
    bank = SpeechBank(np.tile(bank.mel, (1, 1, 7))[..., : one.encoder.config.bins], bank.mouth)
    save_speech_bank(tmp_path / "speech.npz", bank)
    options = f"--student {MINI} {tmp_path / 'two.safetensors'} --speech {tmp_path / 'speech.npz'}"
    monkeypatch.setattr(
        "sys.argv", ["hearing", *options.split(), "--out", str(tmp_path / "mean.safetensors")]
    )
    main()
    mean, _ = load_student(tmp_path / "mean.safetensors")
    bias = one.network.audio_cond_projs[0].bias
    torch.testing.assert_close(mean.network.audio_cond_projs[0].bias, bias + 0.5, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(mean.network.head.head.weight, one.network.head.head.weight)
