"""Model Doctor's answers: the kind of file, its gaps by name, and what to get."""

from __future__ import annotations

import json
import struct
import sys
from math import prod

import pytest
import torch
from safetensors.torch import save_file

from talkstream import cli
from talkstream.model_loaders.doctor import examine
from talkstream.tests import fakes, layouts
from talkstream.tests.model_loaders.test_detect import NEIGHBOURS
from talkstream.tests.nodes.model_files import write_multitalk

SIZES = {"dim": 128, "ffn_dim": 64, "layers": 6, "text_dim": 32, "audio_in": 4 * 14 * 16}
LAYOUT = layouts.student(**SIZES, in_dim=33)


def lines(path, **options) -> list[str]:
    return examine(path, **options).splitlines()


def test_a_whole_student_and_what_it_needs_beside_it(tmp_path):
    told = lines(fakes.write_layout(tmp_path / "livetalk.safetensors", LAYOUT))
    assert told[1] == "it is an AudioPack student (width 128, 6 layers, 33 input channels)"
    assert told[2].startswith(f"holds {len(LAYOUT)} tensors, 0.00 GB ({len(LAYOUT)} in F32)")
    assert "verdict: a whole student, streams" in told
    kv_gb = 2 * 128 * 1024 * 6 * 2 * 15 / 1e9  # bf16 keys and values of a window of 15 latents
    assert any(f"KV cache {kv_gb:.2f} + VAE cache 1.24" in line for line in told)
    assert any(line.endswith("goes into models/audio_encoders") for line in told)
    assert any("CC BY-NC-SA" in line for line in told)


def test_gaps_are_listed_by_name(tmp_path):
    layout = {name: shape for name, shape in LAYOUT.items() if ".4.ffn." not in name} | {"stranger": (2,)}
    told = lines(fakes.write_layout(tmp_path / "part.safetensors", layout))
    assert [line for line in told if line.startswith("missing: ")] == [
        f"missing: blocks.4.ffn.{part}" for part in ("0.weight", "0.bias", "2.weight", "2.bias")
    ]
    assert "unknown: stranger" in told
    many = {name: shape for name, shape in LAYOUT.items() if ".cross_attn." not in name}
    told = lines(fakes.write_layout(tmp_path / "less.safetensors", many))
    assert told[-1] == "missing: and 48 more"


def test_what_loads_but_does_not_stream(tmp_path):
    tensors = fakes.random_tensors(LAYOUT)
    weight = tensors.pop("blocks.0.ffn.0.weight")
    tensors |= {
        "blocks.0.ffn.0.base_layer.weight": weight,
        "blocks.0.ffn.0.lora_A.default.weight": torch.zeros(2, 128),
        "blocks.0.ffn.0.lora_B.default.weight": torch.zeros(64, 2),
    }
    torch.save({"generator": tensors}, tmp_path / "model.pt")
    told = lines(tmp_path / "model.pt")
    assert "note: 1 adapters merged in float32" in told
    assert any(
        line.startswith("verdict: loads but does not stream: it denoises four chunks") for line in told
    )


@pytest.mark.parametrize(("dim", "source"), [(1536, "Wan2.1-T2V-1.3B"), (5120, "Wan2.1-T2V-14B")])
def test_an_adapter_names_the_network_below_it(tmp_path, dim, source):
    layout = layouts.lora(dim=dim, layers=1, rank=1) | {"patch_embedding.bias": (dim,)}
    path = fakes.write_layout(tmp_path / "omniavatar.safetensors", layout)
    assert any(line.startswith("needs: ") and source in line for line in lines(path))


def test_other_files_and_no_files(tmp_path):
    vae = lines(fakes.write_layout(tmp_path / "vae.safetensors", layouts.wan_vae(dim=4)))
    assert vae[1] == "it is a Wan VAE"
    assert any(line.startswith("verdict: not a student; load it with Load VAE") for line in vae)
    assert any("GAIR/LiveTalk-1.3B-V0.1) goes into models/diffusion_models" in line for line in vae)
    half = lines(
        fakes.write_layout(tmp_path / "a.safetensors", layouts.audio_pack(dim=128, layers=6, audio_in=8))
    )
    assert "Use Model as Student" in half[-1]
    (tmp_path / "page.safetensors").write_bytes(b"<!DOCTYPE html>" + bytes(40))
    assert "is a web page" in lines(tmp_path / "page.safetensors")[0]
    assert "does not exist" in lines(tmp_path / "absent.safetensors")[0]


def header_only(path, layout):
    """A file of true size that holds names and shapes in bf16, and a hole in place of its numbers."""
    header, end = {}, 0
    for name, shape in layout.items():
        size = 2 * prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


PUBLISHED = {
    "an AudioPack student (1.3B, 30 layers, 33 input channels)": layouts.livetalk(),
    "an AudioPack student (14B, 40 layers, 65 input channels)": layouts.lip_forcing(),
}
WHOLE = {*PUBLISHED, "the MultiTalk family (FlashTalk"}


@pytest.mark.skipif(sys.platform == "win32", reason="28 GB of hole")
@pytest.mark.parametrize("kind", PUBLISHED | NEIGHBOURS)
def test_published_files_and_their_neighbours_by_their_headers(tmp_path, kind):
    """Nothing behind the header is read, so the answer comes at once whatever the size."""
    path = header_only(tmp_path / "file.safetensors", (PUBLISHED | NEIGHBOURS)[kind])
    told = lines(path)
    assert told[1].startswith("it is ") and kind.split(", as ")[0] in told[1]
    verdict = next(line for line in told if line.startswith("verdict: "))
    assert (verdict == "verdict: a whole student, streams") == (kind in WHOLE)
    path.unlink()


def test_the_console_command_says_the_same(tmp_path, capsys):
    path = tmp_path / "wan.safetensors"
    save_file(fakes.random_tensors(layouts.wan(dim=128, ffn_dim=8, layers=1, in_dim=16)), str(path))
    assert cli.main(["doctor", str(path)]) == 0
    assert capsys.readouterr().out.strip() == examine(path)
    assert "a Wan text-to-video model" in examine(path)


def test_a_multitalk_student_whole_and_in_halves(tmp_path):
    """FlashTalk in one file; InfiniteTalk's audio part alone, and with its network as base."""
    write_multitalk(tmp_path)
    whole = lines(tmp_path / "flashtalk.safetensors")
    assert "verdict: a whole student, streams" in whole
    assert any(line.startswith("profile: flashtalk: its form") for line in whole)
    assert sum("chinese" in line or "clip_vision_h" in line for line in whole) == 2
    part, network = tmp_path / "infinitetalk_multi.safetensors", "wan2.1_i2v_480p_14B_fp16.safetensors"
    half = lines(part)
    assert any(line.startswith("verdict: half a student; choose it in Load Student") for line in half)
    assert any(network in line for line in half)
    both = lines(part, base=tmp_path / network)
    assert "verdict: a whole student, streams" in both and not any(network in line for line in both)
    assert any(line.startswith("profile: infinitetalk: its form") for line in both)
