"""Encoded texts in files: bit for bit back, and a sentence for every wrong file."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.conditioning_file import describe, read_conditioning, write_conditioning
from talkstream.tests import fakes, layouts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_and_options_come_back_bit_for_bit(tmp_path, dtype):
    rows = torch.randn(1, 512, 64).to(dtype)
    options = {"pooled_output": None, "attention_mask": torch.ones(1, 512), "strength": 0.5}
    more = [torch.randn(2, 3, 8).transpose(0, 1), {}]
    write_conditioning(tmp_path / "text.safetensors", [[rows, options], more], text="a person talking")
    read, note = read_conditioning(tmp_path / "text.safetensors")
    assert note == "a person talking"
    assert torch.equal(read[0][0], rows) and read[0][0].dtype == dtype
    assert torch.equal(read[0][1].pop("attention_mask"), options["attention_mask"])
    assert read[0][1] == {"pooled_output": None, "strength": 0.5}
    assert torch.equal(read[1][0], more[0]) and read[1][1] == {}
    assert describe(read) == f"512 rows, 64 wide, {str(dtype).removeprefix('torch.')}, 2 of them"


@pytest.mark.parametrize(
    ("conditioning", "words"),
    [
        ([], "empty conditioning"),
        ([[torch.zeros(4, 4), {}]], r"shape \(4, 4\), expected three axes"),
        ([[torch.full((1, 2, 2), torch.nan), {}]], "NaN"),
        ([[torch.zeros(1, 2, 2), {"control": object()}]], r"carries 'control' \(object\)"),
    ],
)
def test_what_cannot_be_saved(tmp_path, conditioning, words):
    with pytest.raises(ValueError, match=words):
        write_conditioning(tmp_path / "text.safetensors", conditioning)


def test_wrong_files_are_called_by_their_name(tmp_path):
    path = tmp_path / "text.safetensors"
    for layout, words in (
        (layouts.wan_vae(dim=4), "is a Wan VAE, not an encoded text"),
        (layouts.student(dim=128, ffn_dim=8, layers=4, in_dim=33, text_dim=8, audio_in=8), "is a student"),
    ):
        fakes.write_layout(path, layout)
        with pytest.raises(ValueError, match=words):
            read_conditioning(path)
    save_file(
        {"0.rows": torch.zeros(1, 2, 2)}, str(path), metadata={"talkstream_conditioning": '{"text": 1}'}
    )
    with pytest.raises(ValueError, match="is damaged"):
        read_conditioning(path)
    write_conditioning(path, [[torch.zeros(1, 2, 2), {}]])
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cut off"):
        read_conditioning(path)
