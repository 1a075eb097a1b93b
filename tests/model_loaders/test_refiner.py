"""Refined decoders: which tensors of which file, and what is no decoder."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.refiner import read_refiner
from talkstream.tests import fakes, layouts

VAE = layouts.wan_vae(dim=8)
DECODER = layouts.vae_decoder(8, 16)


def write(path, tensors):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(path))
    return path


@pytest.fixture
def refined():
    return fakes.random_tensors(DECODER, seed=3)


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("wrapper", ["", "vae.", "model.first_stage_model."])
def test_decoder_alone_behind_any_wrapper(tmp_path, refined, wrapper):
    tensors = {wrapper + name: tensor for name, tensor in refined.items()}
    assert_same(read_refiner(write(tmp_path / "a.safetensors", tensors), VAE), refined)


def test_decoder_saved_without_its_name(tmp_path, refined):
    tensors = {name.removeprefix("decoder."): tensor for name, tensor in refined.items()}
    assert_same(read_refiner(write(tmp_path / "a.safetensors", tensors), VAE), refined)


def test_of_a_whole_vae_only_the_decoding_half_is_read(tmp_path):
    whole = fakes.random_tensors(VAE, seed=4)
    found = read_refiner(write(tmp_path / "a.safetensors", whole), VAE)
    half = {name: tensor for name, tensor in whole.items() if name.startswith(("decoder.", "conv2."))}
    assert set(half) > set(DECODER)
    assert_same(found, half)


def test_other_files_are_named_in_one_sentence(tmp_path, refined):
    cases = {
        "holds no video decoder": {"blocks.0.weight": torch.zeros(2)},
        "1 missing (decoder.head.2.bias": {n: t for n, t in refined.items() if n != "decoder.head.2.bias"},
        "1 unknown (decoder.more": {**refined, "decoder.more": torch.zeros(1)},
        "of another size (decoder.": fakes.random_tensors(layouts.vae_decoder(16, 16)),
    }
    for words, tensors in cases.items():
        path = write(tmp_path / "other.safetensors", tensors)
        with pytest.raises(ValueError) as caught:
            read_refiner(path, VAE)
        assert words in str(caught.value)
        assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_truncated_file_says_so(tmp_path, refined):
    path = write(tmp_path / "cut.safetensors", refined)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="is cut off"):
        read_refiner(path, VAE)
