"""Every form in which students are published: a tiny file written in it loads to the same weights."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from talkstream.model_loaders.build import build_audio_modules, build_network, open_student
from talkstream.networks.profile import PROFILES
from talkstream.tests import fakes, layouts

SIZES = {"dim": 128, "ffn_dim": 64, "layers": 6, "text_dim": 32, "audio_in": 4 * 14 * 16}
LAYOUT = layouts.student(**SIZES, in_dim=33)
WEIGHTS = fakes.random_tensors(LAYOUT, seed=1)
TARGETS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "ffn.0", "ffn.2")
RANK = 4


def loaded(path, **options) -> dict[str, torch.Tensor]:
    """State of the network that a file becomes, built as everywhere else."""
    student = open_student(path, **options)
    return build_network(student.tensors, student.config).state_dict()


def same(state, expected=WEIGHTS) -> bool:
    return set(state) == set(expected) and all(torch.equal(state[name], expected[name]) for name in expected)


def refusal(path, **options) -> str:
    with pytest.raises(ValueError) as caught:
        open_student(path, **options)
    sentence = str(caught.value)
    assert sentence.startswith(str(path)) and "\n" not in sentence
    return sentence


def nested(tensors, *keys, **beside):
    content = {**tensors}
    for key in reversed(keys):
        content = {key: content}
    return {**content, **beside}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        nested(WEIGHTS, "net"),
        nested(WEIGHTS, "model", "net"),
        nested(WEIGHTS, "state_dict", step=700),
        nested({f"model.{name}": t for name, t in WEIGHTS.items()}, "generator"),
        nested({f"_fsdp_wrapped_module.{name}": t for name, t in WEIGHTS.items()}, "generator_ema"),
        nested({f"_core.{name}": t for name, t in WEIGHTS.items()}, "model"),
    ],
    ids=["flat", "net", "model.net", "state_dict", "generator.model", "ema.fsdp", "model._core"],
)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "bare"])
def test_pytorch_files(tmp_path, content, zipped):
    path = tmp_path / "lipforcing_14b.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same(loaded(path))
    assert "read from a PyTorch file" in open_student(path).describe()


def test_averaged_weights_and_what_training_left_beside_them(tmp_path):
    """The critic and the optimizer are counted and left aside, the un-averaged copy is the same network again."""
    other = {name: tensor + 1 for name, tensor in WEIGHTS.items()}
    content = {"generator": other, "generator_ema": WEIGHTS, "critic": {"a.weight": torch.zeros(2)}}
    path = tmp_path / "model.pt"
    torch.save(content | {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "step": 4}, path)
    assert same(loaded(path))
    assert "2 tensors of its training left aside (critic, optimizer)" in open_student(path).describe()


class Stranger:
    """An object that a safe reader must not build."""


def test_pickles_that_run_code_or_are_cut_off_are_refused(tmp_path):
    path = tmp_path / "student.pt"
    torch.save({**WEIGHTS, "config": Stranger()}, path)
    assert "objects other than tensors" in refusal(path)
    torch.save(WEIGHTS, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged or cut off" in refusal(path)


def write_shards(folder, tensors, *, index: bool = True, count: int = 3):
    """Files named as diffusers names them, and their index."""
    folder.mkdir()
    names = [f"diffusion_pytorch_model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    parts = [dict(list(tensors.items())[i::count]) for i in range(count)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, str(folder / name))
    if index:
        home = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        text = json.dumps({"metadata": {}, "weight_map": home})
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(text, "utf-8")
    return [folder / name for name in names]


@pytest.mark.parametrize("index", [True, False], ids=["index", "numbers only"])
def test_shards_are_one_file_by_folder_by_index_and_by_any_of_them(tmp_path, index):
    paths = write_shards(tmp_path / "shards", WEIGHTS, index=index)
    asked = [tmp_path / "shards", *paths]
    if index:
        asked.append(tmp_path / "shards" / "diffusion_pytorch_model.safetensors.index.json")
    for path in asked:
        assert same(loaded(path)), path
    assert "read from 3 shards" in open_student(paths[1]).describe()


def test_missing_shards_and_indices_of_another_version_are_named(tmp_path):
    paths = write_shards(tmp_path / "shards", WEIGHTS)
    paths[1].unlink()
    index = tmp_path / "shards" / "diffusion_pytorch_model.safetensors.index.json"
    with pytest.raises(ValueError, match="3 shards, 1 of which are missing .*00002-of-00003"):
        open_student(paths[0])
    save_file({"head.modulation": torch.zeros(1, 2, 128)}, str(paths[1]))
    with pytest.raises(ValueError, match="promises .* tensors that its shards lack"):
        open_student(index)
    index.write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="no index of shards"):
        open_student(index)


def diffusers_name(name: str) -> str:
    """A Wan name as diffusers spells it, written down independently of the loader's table."""
    fixed = {
        "head.modulation": "scale_shift_table",
        "head.head.weight": "proj_out.weight",
        "head.head.bias": "proj_out.bias",
    }
    if name in fixed:
        return fixed[name]
    starts = {
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
    }
    for ours, theirs in starts.items():
        if name.startswith(ours):
            return name.replace(ours, theirs)
    block = name.split(".")
    if block[0] != "blocks":
        return name
    head, rest = ".".join(block[:2]), ".".join(block[2:])
    if rest == "modulation":
        return f"{head}.scale_shift_table"
    if rest.startswith("norm3."):
        return f"{head}.norm2.{block[-1]}"
    if rest.startswith("ffn."):
        return f"{head}.ffn.net.0.proj.{block[-1]}" if block[3] == "0" else f"{head}.ffn.net.2.{block[-1]}"
    attention = {"self_attn": "attn1", "cross_attn": "attn2"}[block[2]]
    part = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}.get(block[3], block[3])
    return f"{head}.{attention}.{part}.{block[-1]}"


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_names_of_diffusers_with_their_two_norms_swapped(tmp_path, prefix):
    renamed = {prefix + diffusers_name(name): tensor for name, tensor in WEIGHTS.items()}
    assert prefix + "blocks.0.norm2.weight" in renamed and prefix + "blocks.0.norm3.weight" not in renamed
    path = tmp_path / "student.safetensors"
    save_file(renamed, str(path))
    assert same(loaded(path))


def pairs(seed: int = 2, *, infix: str = "", dim: int = 128) -> dict[str, torch.Tensor]:
    """LoRA matrices for every target of the tiny network."""
    generator, result = torch.Generator().manual_seed(seed), {}
    for block in range(6):
        for target in TARGETS:
            rows, columns = WEIGHTS[f"blocks.{block}.{target}.weight"].shape
            columns = dim if columns == 128 else columns
            name = f"blocks.{block}.{target}"
            result[f"{name}.lora_A{infix}.weight"] = torch.randn(RANK, columns, generator=generator)
            result[f"{name}.lora_B{infix}.weight"] = torch.randn(rows, RANK, generator=generator)
    return result


def merged(weights, adapter, *, scale: float = 0.5, infix: str = "") -> dict[str, torch.Tensor]:
    """The definition, in float64: W + scale B A."""
    result = {name: tensor.double() for name, tensor in weights.items()}
    for block in range(6):
        for target in TARGETS:
            name = f"blocks.{block}.{target}"
            down = adapter[f"{name}.lora_A{infix}.weight"].double()
            result[f"{name}.weight"] += scale * adapter[f"{name}.lora_B{infix}.weight"].double() @ down
    return result


def close(state, expected, tolerance: float) -> bool:
    difference = max(float((state[name].double() - expected[name]).abs().max()) for name in expected)
    return set(state) == set(expected) and difference < tolerance


def unmerged(adapter) -> dict[str, torch.Tensor]:
    """As PEFT wraps a network: targets under base_layer, everything else under its own name."""
    wrapped = {}
    for name, tensor in WEIGHTS.items():
        layer, kind = name.rsplit(".", 1)
        target = any(layer.endswith(f".{t}") for t in TARGETS) and name.startswith("blocks.")
        wrapped[f"{layer}.base_layer.{kind}" if target else name] = tensor
    return wrapped | adapter


@pytest.mark.parametrize("infix", ["", ".default"])
@pytest.mark.parametrize("prefix", ["", "generator.base_model.model."])
def test_unmerged_adapters_are_merged_as_avatarforcing_has_them(tmp_path, infix, prefix):
    adapter = pairs(infix=infix)
    path = tmp_path / "model.pt"
    torch.save({prefix + name: tensor for name, tensor in unmerged(adapter).items()}, path)
    assert close(loaded(path), merged(WEIGHTS, adapter, infix=infix), 1e-6)
    student = open_student(path)
    assert student.profile.name == "avatarforcing" and "four chunks" in student.profile.offline
    assert "36 adapters merged in float32" in student.describe()


def test_modules_that_peft_saved_in_full_replace_their_frozen_copies(tmp_path):
    adapter, content = pairs(), unmerged(pairs())
    for kind in ("weight", "bias"):
        trained = content.pop(f"audio_proj.proj.{kind}")
        content[f"audio_proj.proj.original_module.{kind}"] = torch.zeros_like(trained)
        content[f"audio_proj.proj.modules_to_save.default.{kind}"] = trained
    path = tmp_path / "model.pt"
    torch.save(content, path)
    assert close(loaded(path), merged(WEIGHTS, adapter), 1e-6)


def test_half_a_pair_is_reported(tmp_path):
    content = unmerged(pairs())
    del content["blocks.2.ffn.0.lora_B.weight"]
    path = tmp_path / "model.pt"
    torch.save(content, path)
    assert "1 unknown (blocks.2.ffn.0.lora_A.weight)" in refusal(path)


def test_a_told_alpha_is_believed(tmp_path):
    adapter = pairs()
    told = {f"blocks.{b}.{t}.alpha": torch.tensor(8.0) for b in range(6) for t in TARGETS}
    path = tmp_path / "model.pt"
    torch.save(unmerged(adapter) | told, path)
    assert close(loaded(path), merged(WEIGHTS, adapter, scale=8.0 / RANK), 1e-5)


def test_bf16_weights_are_merged_in_float32_and_rounded_once(tmp_path):
    adapter = {name: tensor.bfloat16() for name, tensor in pairs().items()}
    content = {name: tensor.bfloat16() for name, tensor in unmerged(adapter).items()}
    path = tmp_path / "model.pt"
    torch.save(content, path)
    state = loaded(path)
    exact = merged({name: tensor.bfloat16() for name, tensor in WEIGHTS.items()}, adapter)
    name = "blocks.3.ffn.2.weight"
    assert torch.equal(state[name], exact[name].float().bfloat16())


def wan_base(dim: int = 128) -> dict[str, torch.Tensor]:
    """Wan's text-to-video network, 16 channels in."""
    sizes = {name: SIZES[name] for name in ("ffn_dim", "layers", "text_dim")}
    return fakes.random_tensors(layouts.wan(dim=dim, **sizes, in_dim=16), seed=5)


def omniavatar(in_dim: int, *, infix: str = "") -> dict[str, torch.Tensor]:
    """An adapter as OmniAvatar publishes it: pairs, a wider patch embedding, the audio tensors."""
    student = fakes.random_tensors(layouts.student(**SIZES, in_dim=in_dim), seed=6)
    full = {name: t for name, t in student.items() if name.startswith(("patch_embedding.", "audio_"))}
    return full | pairs(infix=infix)


@pytest.mark.parametrize("infix", ["", ".default"])
@pytest.mark.parametrize(("in_dim", "profile"), [(33, "omniavatar"), (65, "omniavatar_ls")])
@pytest.mark.parametrize("base_form", ["original", "diffusers shards"])
def test_omniavatar_adapters_over_wan(tmp_path, infix, in_dim, profile, base_form):
    base, adapter = wan_base(), omniavatar(in_dim, infix=infix)
    if base_form == "original":
        under = tmp_path / "wan.safetensors"
        save_file(base, str(under))
    else:
        under = write_shards(tmp_path / "wan", {diffusers_name(n): t for n, t in base.items()})[0]
    path = tmp_path / "omniavatar.pt"
    torch.save(adapter, path)
    full = {name: tensor for name, tensor in adapter.items() if ".lora_" not in name}
    expected = merged({**base, **full}, adapter, infix=infix)
    assert close(loaded(path, base=under), expected, 1e-6)
    student = open_student(path, base=under)
    assert student.profile.sigmas == PROFILES[profile].sigmas and student.profile.name == profile
    assert student.config.in_dim == in_dim and "teacher" in student.profile.offline


def test_adapters_without_a_base_or_over_a_wrong_one(tmp_path):
    path, under = tmp_path / "omniavatar.pt", tmp_path / "wan.safetensors"
    torch.save(omniavatar(33), path)
    assert "an adapter in the manner of OmniAvatar" in refusal(path) and "as base" in refusal(path)
    save_file(wan_base(dim=256), str(under))
    assert "width 1536 belongs to Wan2.1-T2V-1.3B, 5120 to Wan2.1-T2V-14B" in refusal(path, base=under)
    save_file({name: tensor.to(torch.float8_e4m3fn) for name, tensor in wan_base().items()}, str(under))
    assert "stored in F8_E4M3" in refusal(path, base=under)


def test_plain_fp8_keeps_its_numbers(tmp_path):
    """The audio half of an fp8 file becomes float32 with the same values."""
    path = tmp_path / "student.safetensors"
    small = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in WEIGHTS.items()}
    save_file(small, str(path))
    assert same(loaded(path), small)


@pytest.mark.parametrize("end", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("per_row", [False, True])
def test_scaled_fp8_audio_tensors_become_ordinary_ones(tmp_path, end, per_row):
    path, content, exact = tmp_path / "student.safetensors", {}, {}
    for name, tensor in WEIGHTS.items():
        if name.endswith(".weight") and tensor.ndim == 2:
            rows = tensor.abs().amax(1, keepdim=True) if per_row else tensor.abs().max()
            scale = rows / 448
            small = (tensor / scale).to(torch.float8_e4m3fn)
            content |= {name: small, name.removesuffix("weight") + end: scale.flatten()}
            exact[name] = small.float() * scale
        else:
            content[name] = exact[name] = tensor
    save_file(content | {"scaled_fp8": torch.zeros(0, dtype=torch.float8_e4m3fn)}, str(path))
    student = open_student(path)
    assert student.signature.quantised
    audio = build_audio_modules(student.audio_tensors(), student.profile).state_dict()
    assert len(audio) == 8 and all(torch.equal(audio[name], exact[name]) for name in audio)
    assert "only ComfyUI's loader" in str(pytest.raises(ValueError, loaded, path).value)
