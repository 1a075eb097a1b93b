"""The page's reader of a growing file's head, against a file that our own writer is writing."""

from __future__ import annotations

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from talkstream.media.muxer import VideoWriter

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import fs from 'node:fs'
import { headLength, mimeType } from './mp4.mjs'
const bytes = new Uint8Array(fs.readFileSync(process.argv[2]))
const length = headLength(bytes)
const cut = [0, 7, 20, length - 1].map((end) => headLength(bytes.subarray(0, end)))
console.log(JSON.stringify({ length, cut, mime: mimeType(bytes.subarray(0, length)) }))
"""


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        ("h264", 'video/mp4; codecs="avc1.64000a, mp4a.40.2"'),
        ("vp9", 'video/mp4; codecs="vp09.00.10.08, mp4a.40.2"'),
    ],
)
def test_head_and_codecs_of_a_running_file(tmp_path, codec, expected):
    """The codecs are those that are written; a head is complete or not there."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node: install Node.js 18 or newer")
    (tmp_path / "mp4.mjs").write_bytes((ROOT / "web" / "lib" / "mp4.js").read_bytes())
    (tmp_path / "read.mjs").write_text(SCRIPT, "utf-8")
    sound = (torch.zeros(1, 16000 * 8), 16000)
    with VideoWriter(
        tmp_path / "a.mp4", width=96, height=96, fps=Fraction(25), audio=sound, codec=codec
    ) as writer:
        writer.write(torch.zeros(120, 96, 96, 3, dtype=torch.uint8))
        running = writer.partial_path.read_bytes()
        done = subprocess.run(
            [node, str(tmp_path / "read.mjs"), str(writer.partial_path)], capture_output=True, check=True
        )
    found = json.loads(done.stdout)
    assert found["length"] == running.index(b"moov") - 4 + int.from_bytes(
        running[running.index(b"moov") - 4 : running.index(b"moov")], "big"
    )
    assert found["cut"] == [0, 0, 0, 0]
    assert found["mime"] == expected
