"""The host's ways of holding a model: shared clones, and the second copy that stands in for a dynamic patcher.

Dynamic VRAM itself needs a GPU: on a CPU the host reroutes it to the ordinary patcher. What it asks of a loader there,
a factory that reads the same weights outside of it, is run here.
"""

from __future__ import annotations

import pytest
import torch

from talkstream.tests.nodes.extra_files import write_lora
from talkstream.tests.nodes.model_files import write_students
from talkstream.tests.nodes.test_graft import host_velocities, largest_difference

pytestmark = pytest.mark.host


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


def with_lora(model, folder, strength: float):
    """As core's LoRA loaders do it."""
    import comfy.sd
    import comfy.utils

    lora = comfy.utils.load_torch_file(str(folder / "lora.safetensors"), safe_load=True)
    return comfy.sd.load_lora_for_models(model, None, lora, strength, 0)[0]


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
