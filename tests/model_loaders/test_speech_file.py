"""The English and the Chinese base wav2vec2: told apart by what lies beside the encoder, else by the name."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.speech_file import CHINESE, ENGLISH, mistaken_encoder

PLAIN = {"wav2vec2.encoder.layer_norm.bias": torch.zeros(768)}
WORDS = PLAIN | {"lm_head.weight": torch.zeros(32, 768)}
PRE_TRAINED = PLAIN | {
    "quantizer.codevectors": torch.zeros(1, 640, 128),
    "project_q.weight": torch.zeros(2, 2),
}


@pytest.mark.parametrize(
    ("name", "tensors", "wanted", "why", "certain"),
    [
        ("model", WORDS, CHINESE, "holds a head that writes words", True),
        ("chinese", WORDS, CHINESE, "holds a head that writes words", True),
        ("model", PRE_TRAINED, ENGLISH, "holds the tensors of pre-training", True),
        ("wav2vec2-chinese-base_fp16", PLAIN, ENGLISH, "is chinese-wav2vec2-base by its name", False),
        ("wav2vec2_base_960h", PLAIN, CHINESE, "is wav2vec2-base-960h by its name", False),
        ("Wav2Vec2-English_fp16", PLAIN, CHINESE, "is wav2vec2-base-960h by its name", False),
    ],
)
def test_the_other_one_is_named(tmp_path, name, tensors, wanted, why, certain):
    save_file(tensors, tmp_path / f"{name}.safetensors")
    mistaken = mistaken_encoder(tmp_path / f"{name}.safetensors", wanted)
    assert mistaken is not None and mistaken.why.startswith(why) and mistaken.certain == certain


@pytest.mark.parametrize(
    ("name", "tensors", "wanted"),
    [
        ("model", PLAIN, CHINESE),
        ("model", PLAIN, ENGLISH),
        ("wav2vec2-base-960h", WORDS, ENGLISH),
        ("chinese-wav2vec2-base", PRE_TRAINED, CHINESE),
        ("english-and-chinese", PLAIN, CHINESE),
    ],
)
def test_the_right_one_and_the_unknown_one_pass(tmp_path, name, tensors, wanted):
    save_file(tensors, tmp_path / f"{name}.safetensors")
    assert mistaken_encoder(tmp_path / f"{name}.safetensors", wanted) is None
