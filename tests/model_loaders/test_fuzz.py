"""Ten thousand damaged files: whatever is in them, the reader answers with one sentence and takes no memory for it."""

from __future__ import annotations

import json
import math
import random
import struct
import tracemalloc
from pathlib import Path

import pytest

from talkstream.model_loaders.build import open_student
from talkstream.model_loaders.checkpoint import read_checkpoint
from talkstream.model_loaders.detect import detect
from talkstream.model_loaders.refiner import decoder_names
from talkstream.model_loaders.tensors import Checkpoint
from talkstream.networks.profile import METADATA_KEY
from talkstream.tests import layouts
from talkstream.tests.nodes.model_files import mel_profile

BYTES_CASES, HEADER_CASES, NAME_CASES, STUDENT_CASES = 4000, 1500, 4000, 500  # 10 000 in all
TINY = layouts.student(dim=128, ffn_dim=32, layers=4, in_dim=33, text_dim=16, audio_in=64)
STARTS = [
    b"PK\x03\x04",
    b"GGUF",
    b"<html",
    b"{",
    b"\x80\x02",
    b"version https://git-lfs",
    struct.pack("<Q", 9) + b"{",
]
ODD_NAMES = [
    "head.modulation", "patch_embedding.weight", "blocks.999999.modulation", "blocks.9999999999.x", "blocks..", "",
    "\ud800", "audio_cond_projs.777.weight", "audio_proj.proj1.weight", "audio_proj.norm_out.weight",
    "model.diffusion_model.", "a\nb", "speech_encoder.conv1.weight", "generator_ema.patch_embedding.weight",
    "x.lora_A.weight", "decoder.head.0.gamma", "blocks.\N{ARABIC-INDIC DIGIT FIVE}.modulation", "img_emb.proj.0.bias",
]  # fmt: skip


def write(path: Path, header: bytes, *, length: int | None = None, data: int = 0) -> None:
    """A file of this header; its data is a hole of so many bytes."""
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header) if length is None else length) + header)
        file.truncate(8 + len(header) + data)


def answer(path: Path) -> Checkpoint | str:
    """What the reader makes of a file, or its sentence; any other exception fails the test."""
    try:
        return read_checkpoint(path)
    except ValueError as error:
        sentence = str(error)
        assert sentence.startswith(str(path)) and "\n" not in sentence and len(sentence) < 1000
        return sentence


@pytest.fixture(scope="module")
def target(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "student.safetensors"


def with_sentence(path: Path) -> None:
    """open_student takes it or says why not."""
    try:
        open_student(path)
    except ValueError as error:
        assert str(error).startswith(str(path)) and "\n" not in str(error)


def odd_shape(random: random.Random) -> tuple[int, ...]:
    sides = (0, 1, 2, 33, 36, 128, 10**6, 10**7, 2**40, 2**70)
    return tuple(random.choice(sides) for _ in range(random.randrange(5)))


def mutated(random: random.Random) -> dict[str, tuple[int, ...]]:
    """A student's shapes with a few of them changed, left out, renamed or added."""
    shapes = dict(TINY)
    for name in random.sample(sorted(TINY), random.randrange(1, 4)):
        shape = shapes.pop(name)
        kind = random.randrange(4)
        if kind == 0:
            shapes[name] = odd_shape(random)
        elif kind == 1:
            shapes[random.choice(["generator.", "model.", "decoder.", "_core."]) + name] = shape
        elif kind == 2:
            shapes[random.choice(ODD_NAMES)] = shape
    if random.random() < 0.5:
        shapes[random.choice(ODD_NAMES)] = odd_shape(random)
    return shapes


def test_bytes(target):
    """Random bytes behind every kind of beginning, lengths that lie, and a good file with bytes flipped."""
    dice = random.Random(1)
    good = json.dumps({"a": {"dtype": "I8", "shape": [2], "data_offsets": [0, 2]}}).encode()
    good = struct.pack("<Q", len(good)) + good + b"ab"
    for case in range(BYTES_CASES):
        noise = dice.randbytes(dice.randrange(60))
        content = dice.choice(STARTS) + noise
        if case % 3 == 1:
            content = struct.pack("<Q", dice.getrandbits(dice.randrange(1, 65))) + b"{" + noise
        elif case % 3 == 2:
            flipped = bytearray(good[: dice.randrange(1, len(good) + 1)])
            for _ in range(dice.randrange(1, 4)):
                flipped[dice.randrange(len(flipped))] = dice.randrange(256)
            content = bytes(flipped)
        target.write_bytes(content)
        found = answer(target)
        if isinstance(found, Checkpoint):
            assert content.startswith(good[:9])
            assert found.size_bytes <= len(content)


def test_headers(target):
    """Well-formed JSON with anything in it."""
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    simple = st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=4)
    values = simple | st.lists(simple, max_size=3) | st.dictionaries(st.text(max_size=4), simple, max_size=2)
    entries = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["BF16", "F32", "I8", "F4", "X"]) | values,
            "shape": st.lists(st.integers(-2, 5), max_size=3) | values,
            "data_offsets": st.lists(st.integers(-2, 64), min_size=2, max_size=2) | values,
        }
    )
    names = st.sampled_from([*sorted(TINY)[:8], *ODD_NAMES, "__metadata__"]) | st.text(max_size=8)

    @hypothesis.settings(max_examples=HEADER_CASES, deadline=None, database=None, derandomize=True)
    @hypothesis.given(st.dictionaries(names, entries | values, max_size=3), st.integers(0, 64))
    def check(header, data):
        write(target, json.dumps(header).encode(), data=data)
        found = answer(target)
        if isinstance(found, Checkpoint):
            assert found.size_bytes <= data * max(1, len(found.tensors))
            assert all(isinstance(value, str) for value in found.metadata.values())
            decoder_names(found.shapes)
        with_sentence(target)

    check()


def test_names_and_shapes():
    """Families are recognised, or the file is named, from whatever names and axes come out of the header."""
    dice = random.Random(2)
    recognised = 0
    for _ in range(NAME_CASES):
        try:
            found = detect(mutated(dice))
        except ValueError as error:
            assert len(str(error)) < 500
        else:
            recognised += found.family == "audiopack"
            assert found.description and (found.advice or found.config is not None)
    assert 0.2 * NAME_CASES < recognised < 0.9 * NAME_CASES


def test_students(target):
    """The whole way: other axes, missing and foreign tensors, and another profile in the metadata."""
    dice = random.Random(3)
    own = json.loads(mel_profile().to_json())
    oddities = (None, True, -1, 0, 10**9, 1e400, 0.5, "x", "", [], [[]], {}, {"a": 1}, [0.5, 0.8])
    for case in range(STUDENT_CASES):
        header: dict[str, object] = {}
        end = 0
        for name, shape in (mutated(dice) if case % 2 else TINY).items():
            size = 2 * math.prod(shape)
            if size < 2**40:
                header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
                end += size
        profile = {**own, dice.choice(sorted(own)): dice.choice(oddities)}
        if dice.random() < 0.3:
            profile["speech"] = {**own["speech"], dice.choice(sorted(own["speech"])): dice.choice(oddities)}
        text = json.dumps(profile)
        header["__metadata__"] = {METADATA_KEY: text if case % 5 else text[: dice.randrange(len(text))]}
        write(target, json.dumps(header).encode(), data=end)
        with_sentence(target)


@pytest.mark.parametrize("length", [2**20, 100_000_000, 100_000_001, 2**40, 2**63, 2**64 - 1])
def test_an_absurd_header_length_takes_no_memory(target, length):
    write(target, b"{}" + b" " * 100, length=length)
    tracemalloc.start()
    sentence = answer(target)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(sentence, str)
    assert peak < 2**20


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":{"dtype":"BF16","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,2]}}',
        b'{"__metadata__":{"a":1},"b":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}',
        b'{"__metadata__":null,"b":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}',
        b'{"b\\n":{"dtype":"I8","shape":[2],"data_offsets":[0,2]}}',
        b'{"b":{"dtype":"I8","shape":[1],"data_offsets":[0,2]}}',
        b'{"b":{"dtype":"I8","shape":"ab","data_offsets":[0,2]}}',
        b'{"b":{"dtype":"I8","shape":[2.0],"data_offsets":[0,2]}}',
        b'{"b":{"dtype":["I8"],"shape":[2],"data_offsets":[0,2]}}',
        b'{"b":{"dtype":"I8","shape":[2],"data_offsets":[2,0]}}',
    ],
    ids=["deep", "long number", "metadata", "no metadata", "newline", "size", "text", "fraction", "type", "backwards"],
)  # fmt: skip
def test_damaged_headers_are_named(target, header):
    write(target, header, data=2)
    sentence = answer(target)
    assert isinstance(sentence, str)
    assert "damaged" in sentence


def test_overlapping_tensors_are_refused_when_they_are_read(target):
    """The header alone does not tell; the format's own reader does, and its refusal becomes a sentence."""
    entry = '{"dtype":"I8","shape":[2],"data_offsets":[0,2]}'
    write(target, f'{{"a":{entry},"b":{entry}}}'.encode(), data=2)
    with pytest.raises(ValueError, match="cannot be read .* download it again"):
        read_checkpoint(target).load(["a"])


def test_a_file_that_speaks_of_a_million_blocks_builds_none_of_them(target):
    """Key accounting once made a network as deep as the highest number in a name."""
    header, end = {}, 0
    for name, shape in {**TINY, "blocks.999998.modulation": (1,)}.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    write(target, json.dumps(header).encode(), data=end)
    with pytest.raises(ValueError, match="the tensors speak of 999999 layers, but there are only"):
        open_student(target)
