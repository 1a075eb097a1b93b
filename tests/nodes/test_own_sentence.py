"""A student that brings its sentence needs no CONDITIONING; one on the wire still comes first."""

from __future__ import annotations

import pytest
import torch

from talkstream import cli
from talkstream.model_loaders.conditioning_file import write_conditioning
from talkstream.tests import fakes

pytestmark = pytest.mark.host


def test_the_files_sentence_is_read_where_the_wire_is_open(host, tmp_path):
    from talkstream.nodes.host.graft import sentence_of, text_width
    from talkstream.nodes.host.student import load_student
    from talkstream.nodes.plan import text_of

    rows, other = torch.randn(1, 3, 4096), torch.randn(1, 2, 4096)
    fakes.write_tiny_audiopack(tmp_path / "plain.safetensors", ffn_dim=128)
    write_conditioning(tmp_path / "text.safetensors", [[rows, {}]], text="a person is talking")
    given = {"student": "plain", "conditioning": "text", "out": "whole"}
    arguments = [
        part for key, name in given.items() for part in (f"--{key}", f"{tmp_path / name}.safetensors")
    ]
    assert cli.main(["sentence", *arguments]) == 0
    plain, _ = load_student(tmp_path / "plain.safetensors", profile="auto", precision="fp32")
    whole, told = load_student(tmp_path / "whole.safetensors", profile="auto", precision="fp32")
    assert 'brings its sentence (3 rows): "a person is talking"' in told
    own = sentence_of(whole.clone())
    profile, width = whole.get_attachment("talkstream_profile"), text_width(whole)
    assert torch.equal(text_of(None, profile, width=width, own_BMD=own), rows)
    assert torch.equal(text_of([[other, {}]], profile, width=width, own_BMD=own), other)
    with pytest.raises(ValueError, match="reads a text and got none"):
        text_of(None, profile, width=width, own_BMD=sentence_of(plain))
