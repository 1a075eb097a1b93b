"""Only the mask that students were trained with is taken from a disk."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from talkstream.media import mask_file


def test_another_file_is_refused_by_its_hash(tmp_path):
    path = tmp_path / "mask2.png"
    Image.new("L", (256, 256)).save(path)
    found = hashlib.md5(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"MD5 {found}, expected 3950d9f1237300ac5f7267798789a007"):
        mask_file.load_mask(path)


def test_the_file_is_read_as_shares_of_white(tmp_path, monkeypatch):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    path = tmp_path / "mask.png"
    Image.fromarray(grey).convert("RGB").save(path)
    monkeypatch.setattr(mask_file, "LATENTSYNC_MD5", hashlib.md5(path.read_bytes()).hexdigest())
    torch.testing.assert_close(mask_file.load_mask(path), torch.from_numpy(grey).float() / 255)
