"""The host's ways of holding a model: patched in place, patched layer by layer as it is used, and dynamic VRAM.

The memory window of dynamic VRAM needs a GPU. The patcher around it is the host's own and runs here on a CPU: loading,
clones, staged LoRAs, and the ordinary copy that stands in for it.
"""

from __future__ import annotations

import pytest
import torch

from talkstream.tests.nodes.dynamic_patcher import apply_staged, dynamic_on_cpu
from talkstream.tests.nodes.extra_files import write_lora
from talkstream.tests.nodes.model_files import mel_profile, write_students
from talkstream.tests.nodes.test_graft import GRID, host_velocities, largest_difference, velocities

pytestmark = pytest.mark.host

ROUNDING = 5e-6  # weights that are read from the mapped file lie elsewhere in memory


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patchers")
    write_students(folder)
    write_lora(folder / "lora.safetensors")
    return folder


@pytest.fixture
def student(host, folder):
    from talkstream.nodes.host.student import load_student

    return load_student(folder / "tiny.safetensors", profile="auto", precision="fp32")[0]


@pytest.fixture
def dynamic(host, folder, monkeypatch):
    """The same student in the host's dynamic patcher."""
    from talkstream.nodes.host.student import load_student

    with dynamic_on_cpu(monkeypatch) as kind:
        model = load_student(folder / "tiny.safetensors", profile="auto", precision="fp32")[0]
        assert isinstance(model, kind)
        yield model


def with_lora(model, folder, strength: float):
    """As core's LoRA loaders do it."""
    import comfy.sd
    import comfy.utils

    lora = comfy.utils.load_torch_file(str(folder / "lora.safetensors"), safe_load=True)
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0)[0]


def velocities_of_loaded(model) -> list[torch.Tensor]:
    """The stream of a model as it lies in memory now."""
    from talkstream.nodes.host.graft import HostNetwork

    with torch.inference_mode(), HostNetwork(model, text_BMD=None) as network:
        return velocities(network, network.make_cache(mel_profile().cache_spec, GRID))


def test_a_lora_changes_the_stream_by_its_strength(student, folder):
    plain = host_velocities(student)
    assert largest_difference(host_velocities(with_lora(student, folder, 0.0)), plain) == 0.0
    assert largest_difference(host_velocities(with_lora(student, folder, 1.0)), plain) > 0.01
    assert largest_difference(host_velocities(student), plain) == 0.0


def test_a_second_copy_of_the_weights_streams_the_same(student, folder):
    """What get_non_dynamic_delegate makes: other weights in memory; profile, audio, LoRA and our forward go along."""
    from talkstream.nodes.host.graft import profile_of

    patched = with_lora(student, folder, 0.7)
    copy = patched.clone(force_deepcopy=True)
    ours, theirs = (p.model.diffusion_model.blocks[0].self_attn.q.weight for p in (patched, copy))
    assert theirs.data_ptr() != ours.data_ptr()
    assert profile_of(copy) == profile_of(student)
    assert largest_difference(host_velocities(copy), host_velocities(patched)) == 0.0


def test_model_sampling_leaves_the_stream_alone(student):
    """The student's own levels and timesteps are fed, whatever shift a node puts on the MODEL."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    shifted = ModelSamplingSD3().patch(student, shift=3.0)[0]
    assert shifted.get_model_object("model_sampling") is not student.get_model_object("model_sampling")
    with torch.inference_mode():
        assert largest_difference(host_velocities(shifted), host_velocities(student)) == 0.0


def test_a_lora_that_is_applied_as_layers_are_used(student, folder):
    """Low VRAM: weights stay where they are, and each layer adds its LoRA when it is called."""
    patched = with_lora(student, folder, 0.7)
    expected = host_velocities(patched)
    patched.detach()
    patched.load(torch.device("cpu"), lowvram_model_memory=1)
    linear = patched.model.diffusion_model.blocks[0].self_attn.q
    assert len(linear.weight_function) == 1
    made = velocities_of_loaded(patched)
    assert largest_difference(made, expected) < 1e-5


def test_dynamic_vram_streams_the_same(student, dynamic):
    """Parameters outside of layers, which it never loads, are cast as they are used; a shift changes nothing."""
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    from talkstream.nodes.host.graft import profile_of

    assert dynamic.is_dynamic()
    assert not student.is_dynamic()
    plain = host_velocities(student)
    assert largest_difference(host_velocities(dynamic), plain) < ROUNDING
    shifted = ModelSamplingSD3().patch(dynamic, shift=3.0)[0]
    assert type(shifted) is type(dynamic)
    assert profile_of(shifted) == profile_of(student)
    assert largest_difference(host_velocities(shifted), plain) < ROUNDING


def test_dynamic_vram_stages_a_lora_on_every_layer(student, dynamic, folder):
    import comfy.model_management

    from talkstream.nodes.host.graft import profile_of

    plain, expected = host_velocities(student), host_velocities(with_lora(student, folder, 0.7))
    for strength, wanted in ((0.0, plain), (0.7, expected)):
        patched = with_lora(dynamic, folder, strength)
        assert profile_of(patched) == profile_of(student)
        comfy.model_management.load_models_gpu([patched])
        assert apply_staged(patched) == 4
        assert largest_difference(velocities_of_loaded(patched), wanted) < ROUNDING


def test_dynamic_vram_has_an_ordinary_stand_in(student, dynamic, folder):
    """What the host makes for compilation and hooks: profile, audio, LoRA and our forward go along."""
    from talkstream.nodes.host.graft import profile_of

    stand_in = with_lora(dynamic, folder, 0.7).get_non_dynamic_delegate()
    assert not stand_in.is_dynamic()
    assert profile_of(stand_in) == profile_of(student)
    expected = host_velocities(with_lora(student, folder, 0.7))
    assert largest_difference(host_velocities(stand_in), expected) < ROUNDING
