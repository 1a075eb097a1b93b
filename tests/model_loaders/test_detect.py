"""Families and sizes from names and shapes alone; neighbours called by their names."""

from __future__ import annotations

import hashlib

import pytest
import torch

from talkstream.model_loaders.accounting import expected_shapes
from talkstream.model_loaders.detect import detect, require_student
from talkstream.model_loaders.neighbours import name_neighbour
from talkstream.networks.wan import WanConfig
from talkstream.tests import layouts

MINI = layouts.student(dim=256, ffn_dim=1024, layers=6, in_dim=33, text_dim=64, audio_in=512) | {
    "speech_encoder.convs.0.weight": (128, 64, 3)
}


def key_hash(shapes) -> str:
    """LiveTalk's own recipe for recognising an architecture (LiveTalk, section 3.1)."""
    parts = [f"{name}:{'_'.join(map(str, shape))}" for name, shape in shapes.items()] + list(shapes)
    return hashlib.md5(",".join(sorted(parts)).encode()).hexdigest()


@pytest.mark.parametrize(
    ("layout", "config", "tensors"),
    [
        (
            layouts.livetalk(),
            WanConfig(1536, 33, 8960, 12, 30, 4096, audio_in=43008, audio_hidden=32),
            857,
        ),
        (
            layouts.livetalk(in_dim=65),
            WanConfig(1536, 65, 8960, 12, 30, 4096, audio_in=43008, audio_hidden=32),
            857,
        ),
        (
            layouts.lip_forcing(),
            WanConfig(5120, 65, 13824, 40, 40, 4096, audio_in=43008, audio_hidden=32),
            1137,
        ),
    ],
    ids=["livetalk-1.3B", "lipforcing-1.3B", "lipforcing-14B"],
)
def test_published_students_give_their_sizes_and_exactly_their_keys(layout, config, tensors):
    signature = detect(layout)
    assert signature.config == config
    assert require_student(signature, path="x") == config
    assert not signature.own_speech_encoder and not signature.quantised
    assert len(layout) == tensors
    assert expected_shapes(config) == layout


@pytest.mark.parametrize(
    ("layout", "constant"),
    [
        (layouts.livetalk(), "2bf9513c7a3e908015f11a800fc9b820"),
        (layouts.lip_forcing(in_dim=33), "883a90b12576b9b8693a08cf690998dd"),
    ],
    ids=["1.3B", "14B"],
)
def test_key_hash_of_our_network_is_the_one_livetalk_looks_for(layout, constant):
    assert key_hash(expected_shapes(detect(layout).config)) == constant


def test_parameter_count_of_livetalk():
    shapes = expected_shapes(detect(layouts.livetalk()).config)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_421_187_232


def test_mini_is_a_student_with_its_own_speech_encoder():
    signature = detect(MINI)
    assert signature.own_speech_encoder
    assert signature.config == WanConfig(256, 33, 1024, 2, 6, 64, audio_in=512)
    assert signature.description == "an AudioPack student (width 256, 6 layers, 33 input channels)"


@pytest.mark.parametrize("mark", ["scaled_fp8", "blocks.0.ffn.0.scale_weight", "blocks.0.ffn.0.weight_scale"])
def test_every_mark_of_scaled_weights_is_known(mark):
    signature = detect(layouts.lip_forcing() | {mark: (1,)})
    assert signature.quantised and signature.config == detect(layouts.lip_forcing()).config


def test_quantised_students_keep_their_sizes():
    """Packed formats halve the input axis of matrices; sizes come from output rows."""
    packed = {
        name: (shape[0], shape[1] // 2) if len(shape) == 2 and name.startswith("blocks.") else shape
        for name, shape in layouts.livetalk().items()
    }
    scales = {name.replace(".weight", ".weight_scale"): () for name in packed if ".ffn." in name}
    signature = detect(packed | scales)
    assert signature.quantised
    assert signature.config == detect(layouts.livetalk()).config


S2V = layouts.wan(dim=5120, ffn_dim=13824, layers=40, in_dim=16) | {
    "casual_audio_encoder.encoder.final_linear.weight": (5120, 5120),
    "audio_injector.injector.0.k.weight": (5120, 5120),
}
HUMO = layouts.wan(dim=5120, ffn_dim=13824, layers=40, in_dim=36) | {
    "audio_proj.audio_proj_glob_1.layer.bias": (512,)
}
ADAPTER = (
    layouts.lora()
    | layouts.audio_pack(dim=5120, layers=40)
    | {"patch_embedding.weight": (5120, 65, 1, 2, 2), "patch_embedding.bias": (5120,)}
)
FLASHHEAD = layouts.wan(dim=1536, ffn_dim=8960, layers=30, in_dim=32) | {
    "audio_proj.proj1.weight": (512, 46080),
    "audio_emb.proj.1.weight": (1536, 768),
}
LIVEAVATAR = {
    f"blocks.{i}.{part}.{half}.weight": (128, 5120)
    for i in range(40)
    for part in ("self_attn.q", "cross_attn.k", "ffn.2")
    for half in ("lora_down", "lora_up")
}
NEIGHBOURS = {
    "a SoulX-FlashHead model": FLASHHEAD,
    "a LoRA, as LiveAvatar is published": LIVEAVATAR,
    "a LoRA": layouts.lora(),
    "an adapter": ADAPTER,
    "a Wan 2.2 S2V": S2V,
    "a HuMo model": HUMO,
    "an InfiniteTalk or MultiTalk audio patch": layouts.multitalk_audio(),
    "the MultiTalk family (FlashTalk": layouts.image_to_video() | layouts.multitalk_audio(),
    "a SoulX-LiveAct model": layouts.image_to_video()
    | layouts.multitalk_audio()
    | {"blocks.0.self_attn.memory_proj_k.weight": (5120, 1, 5)},
    "a LongCat-Avatar model": {
        "multitalk_audio_proj.proj1.weight": (512, 46080),
        "blocks.0.audio_cross_attn.q_norm.weight": (128,),
    },
    "a Wan image-to-video model": layouts.image_to_video(),
    "a Wan text-to-video model": layouts.wan(dim=1536, ffn_dim=8960, layers=30, in_dim=16),
    "without the audio tensors": layouts.wan(dim=1536, ffn_dim=8960, layers=30, in_dim=33),
    "one shard of several": {"blocks.7.self_attn.q.weight": (5120, 5120)},
    "the audio part of an AudioPack student": layouts.audio_pack(dim=1536, layers=30),
    "a Wan VAE": layouts.wan_vae(),
    "a tiny preview VAE": {"taesd_decoder.1.weight": (64, 16, 3, 3)},
    "a VAE of another model": {"decoder.conv_in.weight": (512, 4, 3, 3)},
    "a T5 text encoder": layouts.t5_encoder(),
    "a wav2vec2 speech encoder": layouts.wav2vec2_base(),
    "a Whisper speech encoder": {"model.encoder.embed_positions.weight": (1500, 1280)},
    "a CLIP vision model": {"vision_model.embeddings.class_embedding": (1280,)},
    "a CLIP text encoder": {"text_model.encoder.layers.0.mlp.fc1.weight": (3072, 768)},
    "a language model": {"model.layers.0.self_attn.q_proj.weight": (4096, 4096)},
    "an image checkpoint": {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)},
    "no file that we know": {"embedding.table": (4, 4), "another": (2,)},
}


@pytest.mark.parametrize("kind", NEIGHBOURS)
def test_neighbours_are_named_with_what_to_load_instead(kind):
    signature = detect(NEIGHBOURS[kind])
    with pytest.raises(ValueError) as caught:
        require_student(signature, path="models/file.safetensors")
    sentence = str(caught.value)
    assert sentence.startswith("models/file.safetensors is ") and kind.split(", as ")[0] in sentence
    assert ", not a streaming student; " in sentence and "\n" not in sentence
    assert signature.advice and signature.config is None


@pytest.mark.parametrize("prefix", ["wav2vec2."])
def test_wav2vec2_with_the_prefix_of_hugging_face(prefix):
    neighbour = name_neighbour({prefix + name: shape for name, shape in layouts.wav2vec2_base().items()})
    assert neighbour.description == "a wav2vec2 speech encoder"


def test_a_missing_size_and_an_odd_width_are_said():
    layout = layouts.livetalk()
    del layout["head.modulation"]
    with pytest.raises(ValueError, match="head.modulation is missing"):
        detect(layout)
    with pytest.raises(ValueError, match="200 channels wide"):
        detect(layouts.student(dim=200, ffn_dim=8, layers=6, in_dim=33))
