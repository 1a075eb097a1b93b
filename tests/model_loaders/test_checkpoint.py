"""Reading headers: sizes, lazy tensors, and one sentence for every kind of file that is none of ours."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from talkstream.model_loaders.checkpoint import read_checkpoint
from talkstream.model_loaders.recipes import LazyTensors
from talkstream.tests import fakes, layouts

TINY = layouts.student(dim=128, ffn_dim=32, layers=6, in_dim=33, text_dim=16, audio_in=64)


@pytest.fixture
def student(tmp_path):
    return fakes.write_layout(tmp_path / "student.safetensors", TINY, metadata={"made_by": "a test"})


def refusal(path) -> str:
    with pytest.raises(ValueError) as caught:
        read_checkpoint(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and "\n" not in sentence
    return sentence


def test_header_gives_shapes_metadata_and_size_without_tensors(student):
    checkpoint = read_checkpoint(student)
    assert checkpoint.shapes == TINY
    assert checkpoint.metadata == {"made_by": "a test"}
    assert checkpoint.size_bytes == 4 * sum(torch.Size(shape).numel() for shape in TINY.values())
    assert {header.dtype for header in checkpoint.tensors.values()} == {"F32"}


def test_tensors_are_read_one_by_one_and_bit_for_bit(student):
    expected = load_file(str(student))
    checkpoint = read_checkpoint(student)
    loaded = checkpoint.load(["head.modulation"])
    assert list(loaded) == ["head.modulation"]
    assert torch.equal(loaded["head.modulation"], expected["head.modulation"])
    lazy = LazyTensors(checkpoint, {"ours": "blocks.0.modulation", "theirs": "head.head.bias"})
    assert torch.equal(lazy["ours"], expected["blocks.0.modulation"])
    assert list(lazy.subset(["theirs"])) == ["theirs"]
    assert torch.equal(lazy.read()["theirs"], expected["head.head.bias"])


def test_truncated_weights_say_how_much_is_there(student):
    whole = student.read_bytes()
    student.write_bytes(whole[: len(whole) // 2])
    assert "cut off" in refusal(student) and "49 %" in refusal(student)


def test_truncated_header_and_bytes_at_the_end_are_told_apart(student):
    whole = student.read_bytes()
    student.write_bytes(whole[:200])
    assert "cut off inside its header" in refusal(student)
    student.write_bytes(whole + b"1234")
    assert "4 bytes follow its last tensor" in refusal(student)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(60), "a PyTorch pickle"),
        (b"\x80\x02\x8a\x0al\xfc" + bytes(60), "a PyTorch pickle"),
        (b"GGUF\x03\x00\x00\x00" + bytes(60), "a GGUF file"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (json.dumps({"weight_map": {}, "metadata": {"total_size": 1}}).encode(), "a JSON file"),
        (b"RIFF\x00\x00\x01\x00WAVEfmt " + bytes(60), "not a safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{broken header..", "damaged safetensors header"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "holds no tensors"),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path, content, kind):
    path = tmp_path / "student.safetensors"
    path.write_bytes(content)
    assert kind in refusal(path)


def test_header_whose_length_begins_like_json_is_still_read(tmp_path):
    """The first byte of the length may equal an opening brace; a file must not be called JSON for it."""
    for padding in range(256):
        path = fakes.write_layout(
            tmp_path / f"{padding}.safetensors", {"weight": (1,)}, metadata={"padding": "x" * (8 * padding)}
        )
        assert read_checkpoint(path).shapes == {"weight": (1,)}


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_checkpoint(tmp_path / "absent.safetensors")
    assert "is a folder" in refusal(tmp_path)
