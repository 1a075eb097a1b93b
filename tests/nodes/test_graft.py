"""The host's network with our forward against our own network, and what the graft survives."""

from __future__ import annotations

import pytest
import torch

from talkstream.networks.kv_cache import CLEAN_PASS
from talkstream.tests.nodes.model_files import mel_profile, write_students

pytestmark = pytest.mark.host

GRID = (4, 6)


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("students")
    write_students(folder)
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def ours(tiny_path):
    """Our own network from the same file."""
    from talkstream.model_loaders.build import build_network, open_student
    from talkstream.streaming.network import LocalNetwork

    student = open_student(tiny_path)
    return LocalNetwork(build_network(student.tensors.read(), student.config))


@pytest.fixture
def grafted(host, tiny_path):
    """The MODEL as Load Student gives it, in float32."""
    from talkstream.nodes.host.student import load_student

    model, _ = load_student(tiny_path, profile="auto", precision="fp32")
    return model


def velocities(network, cache, *, chunks: int = 4) -> list[torch.Tensor]:
    """Every pass of a stream of random chunks."""
    generator, made = torch.Generator().manual_seed(3), []
    for _ in range(chunks):
        x = torch.randn(1, 33, 3, 2 * GRID[0], 2 * GRID[1], generator=generator)
        tokens = torch.randn(1, 3, 32, generator=generator)
        cache.begin_chunk(3)
        for step, timestep in ((0, 1000.0), (1, 800.0), (CLEAN_PASS, 0.0)):
            cache.begin_pass(step)
            made.append(network.velocity(x, timestep=timestep, audio_tokens_BTE=tokens, cache=cache))
        cache.end_chunk()
    return made


def host_velocities(model, **placement) -> list[torch.Tensor]:
    import comfy.model_management

    from talkstream.nodes.host.graft import HostNetwork, profile_of

    comfy.model_management.load_models_gpu([model, *model.get_nested_additional_models()])
    with torch.inference_mode(), HostNetwork(model, text_BMD=None) as network:
        return velocities(network, network.make_cache(profile_of(model).cache_spec, GRID, **placement))


def largest_difference(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


def test_chunk_by_chunk_the_same_numbers(grafted, ours):
    """Cache, audio path and null text through the host's modules equal ours to rounding."""
    expected = velocities(ours, ours.make_cache(mel_profile().cache_spec, GRID))
    assert largest_difference(host_velocities(grafted), expected) < 2e-6
    assert max(float(v.abs().max()) for v in expected) > 0.1


def test_cache_in_main_memory_the_same_numbers(grafted):
    assert largest_difference(host_velocities(grafted), host_velocities(grafted, in_main_memory=True)) == 0.0


def test_cache_in_eight_bits_close_numbers(grafted):
    """Velocities of deviation 1, a clean cache whose past is rounded; in main memory the same rounding."""
    eight = host_velocities(grafted, eight_bit=True)
    assert 1e-6 < largest_difference(host_velocities(grafted), eight) < 0.02
    assert largest_difference(eight, host_velocities(grafted, eight_bit=True, in_main_memory=True)) == 0.0


def test_bf16_computes_in_bf16_on_a_cpu(host, tiny_path, ours):
    """The host would compute in float32 there, whatever the weights are stored in."""
    from talkstream.nodes.host.student import load_student

    model, summary = load_student(tiny_path, profile="auto", precision="bf16")
    assert "bfloat16" in summary
    expected = velocities(ours, ours.make_cache(mel_profile().cache_spec, GRID))
    difference = largest_difference(host_velocities(model), expected)
    assert 1e-4 < difference < 0.2


def test_a_lora_of_the_host_changes_the_stream(grafted, ours):
    """A patch on q of every block acts as if it were in the file."""
    weights = {name: p for name, p in ours.model.named_parameters() if name.endswith("self_attn.q.weight")}
    delta = {
        name: 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(4))
        for name, p in weights.items()
    }
    patched = grafted.clone()
    assert len(
        patched.add_patches({f"diffusion_model.{name}": (d,) for name, d in delta.items()}, 0.5)
    ) == len(delta)
    with torch.no_grad():
        for name, p in weights.items():
            p += 0.5 * delta[name]
        expected = velocities(ours, ours.make_cache(mel_profile().cache_spec, GRID))
        for name, p in weights.items():
            p -= 0.5 * delta[name]
    assert largest_difference(host_velocities(patched), expected) < 2e-5


def test_profile_and_audio_survive_clones(grafted):
    from talkstream.nodes.host.graft import audio_modules, profile_of

    clone = grafted.clone().clone()
    assert profile_of(clone) == profile_of(grafted)
    assert (
        audio_modules(clone).audio_proj.proj.weight.data_ptr()
        == audio_modules(grafted).audio_proj.proj.weight.data_ptr()
    )


def test_a_model_without_a_profile_is_refused(host):
    from talkstream.nodes.host.graft import PROFILE_KEY, profile_of

    class Plain:
        def get_attachment(self, key):
            assert key == PROFILE_KEY

    with pytest.raises(ValueError, match="insert Use Model as Student"):
        profile_of(Plain())
