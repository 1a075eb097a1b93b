"""Use Model as Student: networks of core's loader, after LoRAs and quantised, stream as Load Student's do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from talkstream.tests import fakes, layouts
from talkstream.tests.nodes.test_graft import host_velocities, largest_difference

pytestmark = pytest.mark.host

MINI = Path(__file__).resolve().parents[2] / "assets" / "diffusion_models" / "talkstream_mini.safetensors"
SIZES = {"dim": 128, "ffn_dim": 256, "layers": 6}
BLOCK = 32  # numbers that share a scale, as in GGUF's Q8_0


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return fakes.write_tiny_audiopack(tmp_path_factory.mktemp("use_model") / "student.safetensors", **SIZES)


def load_student(path, **options):
    from talkstream.nodes.host.student import load_student

    return load_student(path, **{"profile": "auto", "precision": "auto", **options})[0]


def adopt(model, path, **options):
    from talkstream.nodes.host.adopt import use_as_student

    return use_as_student(model, path, **{"profile": "auto", **options})


def core_model(path):
    """As core's Load Diffusion Model gives it: all tensors of the Wan network, none of the audio."""
    import comfy.sd

    return comfy.sd.load_diffusion_model(str(path))


def lora() -> dict[str, torch.Tensor]:
    """A LoRA in the names that trainers give it."""
    names = layouts.lora(dim=128, layers=6, rank=4)
    tensors = fakes.random_tensors(names, seed=8)
    return {f"diffusion_model.{name}": tensor for name, tensor in tensors.items()}


def with_lora(model):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora(), 0.7, 0.0)[0]


def test_plain_weights(host, path):
    student, summary = adopt(core_model(path), path)
    assert "8 audio tensors from student.safetensors" in summary and "profile livetalk" in summary
    expected = host_velocities(load_student(path, precision="fp32"))
    assert max(float(v.abs().max()) for v in expected) > 0.1
    assert largest_difference(host_velocities(student), expected) == 0.0


def test_what_ships(host):
    """The Mini, whose matrices for a text are zeros in eight bits; everything else is not."""
    stored = load_file(str(MINI))
    eight_bit = {n: t for n, t in stored.items() if t.dtype == torch.float8_e4m3fn}
    texts = [f"blocks.{block}.cross_attn.{part}.weight" for block in range(6) for part in "qk"]
    assert set(eight_bit) == {"text_embedding.0.weight", *texts}
    assert not any(t.float().any() for t in eight_bit.values())
    student, summary = adopt(core_model(MINI), MINI)
    assert "profile talkstream_mini" in summary
    expected = host_velocities(load_student(MINI, precision="fp32"))
    assert max(float(v.abs().max()) for v in expected) > 0.1
    assert largest_difference(host_velocities(student), expected) < 1e-5


def test_lora_before_and_after(host, path):
    plain = host_velocities(load_student(path, precision="fp32"))
    expected = host_velocities(with_lora(load_student(path, precision="fp32")))
    assert largest_difference(plain, expected) > 1e-3
    before, _ = adopt(with_lora(core_model(path)), path)
    assert largest_difference(host_velocities(before), expected) == 0.0
    after = with_lora(adopt(core_model(path), path)[0])
    assert largest_difference(host_velocities(after), expected) == 0.0


def test_audio_tensors_alone_are_enough_and_all_that_is_read(host, path, tmp_path):
    """The rest of the file may be anything: here, numbers that would spoil every result."""
    stored = load_file(str(path))
    audio = {name: t for name, t in stored.items() if name.startswith("audio_")}
    save_file(audio, str(tmp_path / "audio.safetensors"))
    spoiled = {n: t if n in audio else torch.full_like(t, torch.nan) for n, t in stored.items()}
    save_file(spoiled, str(tmp_path / "spoiled.safetensors"))
    expected = host_velocities(load_student(path, precision="fp32"))
    for name in ("audio.safetensors", "spoiled.safetensors"):
        student, _ = adopt(core_model(path), tmp_path / name)
        assert largest_difference(host_velocities(student), expected) == 0.0


def fp8(path, target, *, scaled: str | None):
    """An fp8 copy of a student: plain, with scales, or with scales and the list of newer files."""
    content, layers = {}, {}
    for name, tensor in load_file(str(path)).items():
        matrix = name.endswith(".weight") and tensor.ndim == 2 and name.startswith("blocks.")
        if matrix and scaled:
            scale = tensor.abs().max() / 448
            end = "weight_scale" if scaled == "listed" else "scale_weight"
            content[name] = (tensor / scale).to(torch.float8_e4m3fn)
            content[name.removesuffix("weight") + end] = scale.reshape(())
            layers[name.removesuffix(".weight")] = {"format": "float8_e4m3fn"}
        else:
            content[name] = tensor.to(torch.float8_e4m3fn) if matrix else tensor
    metadata = None
    if scaled == "old":
        content["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    if scaled == "listed":
        metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    save_file(content, str(target), metadata=metadata)
    return target


@pytest.mark.parametrize("scaled", [None, "old", "listed"])
def test_fp8_weights_of_the_host(host, path, tmp_path, scaled):
    """Equal to Load Student on the same file, and to the full weights within fp8's own error."""
    small = fp8(path, tmp_path / "student_fp8.safetensors", scaled=scaled)
    expected = host_velocities(load_student(small))
    student, _ = adopt(core_model(small), small)
    assert largest_difference(host_velocities(student), expected) == 0.0
    full = host_velocities(load_student(path, precision="fp32"))
    error = largest_difference(expected, full) / max(float(v.abs().max()) for v in full)
    assert 1e-4 < error < 0.15


def test_listed_layers_behind_a_prefix_are_found(host, path, tmp_path):
    """The list of quantised layers in the metadata speaks the file's names, which lose their wrapper.

    Equal but for rounding: mapped tensors lie at other offsets in the two files, and sums follow the alignment.
    """
    small = fp8(path, tmp_path / "flat.safetensors", scaled="listed")
    expected = host_velocities(load_student(small))
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in load_file(str(small)).items()}
    layers = {
        name.removesuffix(".weight_scale"): {"format": "float8_e4m3fn"}
        for name in tensors
        if name.endswith(".weight_scale")
    }
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    save_file(tensors, str(tmp_path / "wrapped.safetensors"), metadata=metadata)
    wrapped = host_velocities(load_student(tmp_path / "wrapped.safetensors"))
    assert largest_difference(wrapped, expected) < 1e-5


def quantised(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes and scales of blocks of 32 numbers, as GGUF's Q8_0 keeps them."""
    blocks = weight.reshape(-1, BLOCK)
    scales = (blocks.abs().amax(1, keepdim=True) / 127).half().clamp(min=1e-7)
    return (blocks / scales).round().clamp(-127, 127).to(torch.int8), scales


def restored(codes: torch.Tensor, scales: torch.Tensor, shape) -> torch.Tensor:
    return (codes.float() * scales.float()).reshape(shape)


def block_operations():
    """Layers that keep Q8_0 blocks and restore them at every call, as GGUF packs do."""
    import comfy.ops

    class Operations(comfy.ops.manual_cast):
        class Linear(comfy.ops.manual_cast.Linear):
            def _load_from_state_dict(self, state, prefix, *rest):
                weight = state[prefix + "weight"]
                self.codes, self.scales = quantised(weight.float())
                self.shape = weight.shape
                super()._load_from_state_dict(state, prefix, *rest)
                self.weight = torch.nn.Parameter(torch.zeros(0), requires_grad=False)

            def forward(self, x):
                weight = restored(self.codes, self.scales, self.shape).to(x)
                return torch.nn.functional.linear(x, weight, self.bias.to(x))

    return Operations


def test_blockwise_quantised_layers_of_another_pack(host, path, tmp_path):
    """Equal to the restored weights to rounding, and to the full ones within the quantisation's error."""
    import comfy.sd
    import comfy.utils

    tensors = comfy.utils.load_torch_file(str(path))
    model = comfy.sd.load_diffusion_model_state_dict(
        dict(tensors), model_options={"custom_operations": block_operations()}
    )
    student, _ = adopt(model, path)
    made = host_velocities(student)
    exact = {
        name: restored(*quantised(t), t.shape)
        if t.ndim == 2 and name.endswith("weight") and not name.startswith("audio_")
        else t
        for name, t in load_file(str(path)).items()
    }
    save_file(exact, str(tmp_path / "restored.safetensors"))
    expected = host_velocities(load_student(tmp_path / "restored.safetensors", precision="fp32"))
    assert largest_difference(made, expected) < 2e-6
    full = host_velocities(load_student(path, precision="fp32"))
    assert 1e-5 < largest_difference(made, full) < 0.02 * max(float(v.abs().max()) for v in full)


def test_what_does_not_belong_together_is_one_sentence(host, path, tmp_path):
    model = core_model(path)
    wan = fakes.write_layout(
        tmp_path / "wan.safetensors", layouts.wan(dim=128, ffn_dim=256, layers=6, in_dim=16)
    )
    other = fakes.write_tiny_audiopack(tmp_path / "other.safetensors", dim=128, ffn_dim=256, layers=8)
    image = fakes.write_layout(
        tmp_path / "i2v.safetensors", layouts.image_to_video(dim=128, ffn_dim=256, layers=6)
    )
    cases = [
        (model, wan, "no audio tensors"),
        (model, other, "belongs to another network than an AudioPack student (width 128, 6 layers"),
        (
            core_model(wan),
            path,
            "no profile is known for an AudioPack student (width 128, 6 layers, 16 input",
        ),
        (core_model(image), path, "no audio part of the MultiTalk family"),
    ]
    for loaded, audio, words in cases:
        with pytest.raises(ValueError) as caught:
            adopt(loaded, audio)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="insert Use Model as Student"):
        from talkstream.nodes.host.graft import profile_of

        profile_of(model)


def test_networks_that_load_but_do_not_stream_say_why(host):
    from talkstream.networks.profile import AVATARFORCING, OMNIAVATAR_LS
    from talkstream.nodes.plan import check_student

    for profile, words in ((AVATARFORCING, "four chunks"), (OMNIAVATAR_LS, "guidance 4.5")):
        with pytest.raises(ValueError, match=f"{profile.name}' loads but does not stream: .*{words}"):
            check_student(None, profile, None)
