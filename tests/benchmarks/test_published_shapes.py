"""The speed of published shapes: tensors as published, the cache's true size, a whole command on a CPU."""

from __future__ import annotations

import dataclasses
import re
from contextlib import nullcontext
from itertools import islice

import pytest
import torch

from talkstream.benchmarks import published_shapes
from talkstream.benchmarks.published_shapes import SHAPES, Clock, main, tiny

KEPT = ["livetalk", "lipforcing", "echotorrent"]


def run(*arguments: str, out) -> dict[str, dict[str, str]]:
    """The table that a command writes."""
    main([*arguments, "--tiny", "--device", "cpu", "--chunks", "1", "--out", str(out)])
    return table_of(out.read_text("utf-8"))


def table_of(text: str) -> dict[str, dict[str, str]]:
    """Shape -> what is measured -> value."""
    head, _, *lines = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("|"))
    return {
        title.strip(): {line[0].strip(): line[at].strip() for line in lines}
        for at, title in enumerate(head)
        if at
    }


def test_what_is_told_of_a_shape_is_what_it_streams():
    """Bytes by hand: 2 numbers of 2 bytes per token, channel, layer and latent; a moving sink has one copy more."""
    live, lip, flash = (SHAPES[name] for name in ("livetalk", "lipforcing", "flashtalk"))
    assert live.cache_bytes == 4 * 30 * 1536 * 32 * 32 * 15
    assert lip.cache_bytes == 40 * 5120 * 32 * 32 * (4 * 7 + 2)
    assert [shape.window for shape in (live, lip, flash)] == [15, 7, 9]
    assert [shape.warm_up for shape in (live, lip, flash)] == [7, 5, 3]
    assert [shape.frames for shape in SHAPES.values()] == [12, 12, 16, 28]
    assert [len(shape.layout) for shape in SHAPES.values()] == [857, 1137, 1633, 1633]


def test_a_part_takes_as_long_as_its_body(monkeypatch):
    ticks = iter([1.0, 2.5, 10.0, 10.25])
    monkeypatch.setattr(published_shapes.time, "perf_counter", lambda: next(ticks))
    clock = Clock("cpu")
    for _ in range(2):
        with clock.part("decode"):
            pass
    assert clock.seconds == {"decode": 1.75}


@pytest.mark.host
@pytest.mark.parametrize("name", KEPT)
def test_a_stream_is_the_nodes_own(host, name):
    """Its weights are the layout's to the last tensor; its cache is as large as told, its latents finite and moving."""
    from talkstream.tests.nodes import random_students

    shape = tiny(SHAPES[name])
    with torch.inference_mode():
        model = random_students.random_student(shape.layout, shape.profile, dtype=torch.bfloat16)
        vae = random_students.random_vae(shape.vae_width)
        parts = [model, *model.get_nested_additional_models()]
        held = sum(len(part.model.state_dict()) for part in parts)
        assert held == len(shape.layout) + len(model.model.model_sampling.state_dict())
        with random_students.running(model, vae, chunks=3, keeping_past=nullcontext) as (session, decoder):
            assert session._cache.size_bytes == shape.cache_bytes
            made = [chunk.latent_BCTHW for chunk in islice(session.chunks(), 3)]
            shown = [len(decoder.decode(latents)) for latents in made]
    assert shown == [shape.frames - 3, shape.frames, shape.frames]
    assert all(0.1 < float(latents.std()) < 10 for latents in made)
    assert float((made[1] - made[2]).abs().max()) > 0.1


@pytest.mark.host
def test_the_command(host, tmp_path, capsys):
    """Parts add up to the chunk; rates are frames by seconds; one student keeps its past by pictures."""
    names = ["livetalk", "flashtalk"]
    table = run("--shapes", *names, out=tmp_path / "page.md")
    assert list(table) == ["LiveTalk tiny", "FlashTalk tiny"]
    for lines, name in zip(table.values(), names, strict=True):
        parts = ("denoising, s", "keeping the past, s", "VAE decode, s", "chunk, s")
        denoising, past, decode, chunk = (float(lines[part]) for part in parts)
        assert min(denoising, past, decode) > 0
        assert denoising + past + decode == pytest.approx(chunk, rel=0.05, abs=0.003)
        rates = float(lines["frames per second"]), float(lines["frames per second without the VAE"])
        frames = SHAPES[name].frames
        assert rates == pytest.approx((frames / chunk, frames / (denoising + past)), rel=0.05)
    text = (tmp_path / "page.md").read_text("utf-8")
    assert re.search(r"the CPU, torch \S+, ComfyUI \d+\.\d+\.\d+; `python -m talkstream", text)
    assert text in capsys.readouterr().out


@pytest.mark.host
def test_a_shape_that_fails_leaves_the_others(host, tmp_path, monkeypatch, capsys):
    live = SHAPES["livetalk"]
    wider = live.layout | {"patch_embedding.weight": (1536, 34, 1, 2, 2)}
    broken = dataclasses.replace(live, title="Broken 1B", layout=wider)
    monkeypatch.setitem(published_shapes.SHAPES, "livetalk", broken)
    with pytest.raises(SystemExit, match="failed: Broken tiny"):
        run("--shapes", "livetalk", "lipforcing", out=tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text("utf-8")
    assert list(table_of(text)) == ["Lip Forcing tiny"]
    assert "- Broken tiny: ValueError: the student takes 34 input channels" in text
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--chunks", "0"], "--chunks is 0; give at least 1"),
        (["--shapes", "sora"], "invalid choice: 'sora'"),
    ],
)
def test_bad_arguments(capsys, arguments, sentence):
    with pytest.raises(SystemExit):
        main(arguments)
    assert sentence in capsys.readouterr().err
