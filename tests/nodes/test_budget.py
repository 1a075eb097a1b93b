"""What a run needs, and the sentence for one that cannot have it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from talkstream.tests.fakes import write_tiny_wan_vae
from talkstream.tests.nodes.model_files import write_students

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def frames(host, tmp_path_factory):
    """A second of the tiny student."""
    import comfy.sd
    import comfy.utils

    from talkstream.nodes.host.student import load_student
    from talkstream.nodes.plan import plan_frames, plan_stream
    from talkstream.nodes.portrait import encode_portrait
    from talkstream.nodes.voice import prepare_speech

    folder = tmp_path_factory.mktemp("budget")
    write_students(folder)
    write_tiny_wan_vae(folder / "vae.safetensors")
    model, _ = load_student(folder / "tiny.safetensors", profile="auto", precision="fp32")
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(folder / "vae.safetensors"), safe_load=True))
    audio = {"waveform": torch.zeros(1, 1, 16000), "sample_rate": 16000}
    speech = prepare_speech(model, audio, encoder=None, window="auto", limit_seconds=0.0)
    picture = torch.zeros(1, 32, 32, 3)
    reference, _ = encode_portrait(model, vae, picture, width=0, height=0, fit="cover (crop)")
    stream = plan_stream(model, speech, reference, conditioning=None, sigmas=None, cache=None, seed=1)
    return plan_frames(stream, vae, precision="auto")


def test_the_plan_is_what_the_run_holds(frames):
    """Cache: 4 layers, [3 sink + 3 history + 3 chunk], keys, values and unrotated sink keys of 4 tokens of 128."""
    from talkstream.nodes.budget import plan_memory
    from talkstream.nodes.types import CacheChoice

    plan = plan_memory(frames)
    assert plan.cache == 4 * 4 * 128 * 4 * (2 * 9 + 3)
    assert plan.weights == sum(model.model_size() for model in frames.get_models()) > 0
    eight = plan_memory(frames, CacheChoice(eight_bit=True))
    assert eight.cache == 4 * 4 * (2 * 6 * (128 + 4) + 2 * 3 * 4 * 128) + 2 * 4 * 4 * 128 * 9
    away = plan_memory(frames, CacheChoice(in_main_memory=True))
    assert (away.cache, away.away) == (4 * 4 * 4 * 128 * 9, 4 * 4 * 128 * 4 * 2 * 9)


def test_other_models_are_told(frames, monkeypatch):
    """Those of the run are not among them."""
    import comfy.model_management

    from talkstream.nodes import budget

    comfy.model_management.load_models_gpu(frames.get_models())
    device = frames.stream.model.load_device
    everything = budget.memory.held_by_others(device, [])
    others = budget.memory.held_by_others(device, frames.get_models())
    assert everything - others == sum(model.loaded_size() for model in frames.get_models()) > 0
    monkeypatch.setattr(budget.memory, "held_by_others", lambda device, patchers: 11_400_000_000)
    assert budget.describe_memory(frames).endswith("such as text and CLIP encoders, hold 11.40 GB")


def test_a_run_that_fits_to_the_byte_starts(frames, monkeypatch):
    from talkstream.nodes import budget

    plan = budget.plan_memory(frames)
    monkeypatch.setattr(budget.memory, "room", lambda device: plan.beside)
    budget.check_memory(frames.stream, partial(budget.plan_memory, frames))
    monkeypatch.setattr(budget.memory, "room", lambda device: plan.beside - 1)
    with pytest.raises(
        ValueError, match=r"needs .* GB of main memory .* set KV Cache to dtype '8 bit' .*text enc"
    ):
        budget.check_memory(frames.stream, partial(budget.plan_memory, frames))
    monkeypatch.setattr(budget.memory, "room", lambda device: 1000)
    with pytest.raises(ValueError, match="choose a smaller size in Encode Reference"):
        budget.check_memory(frames.stream, partial(budget.plan_memory, frames))


def test_a_small_card_is_told_its_settings(frames):
    """Only those that fit, and the sentence names the memory that is short."""
    from talkstream.nodes.budget import Room, plan_memory, refusal

    plan = plan_memory(frames)
    card = Room(plan.beside - 1, 10**9, same=False)
    text = refusal(frames.stream, partial(plan_memory, frames), card)
    assert f"GB of {frames.stream.model.load_device} beside its weights" in text
    assert "placement 'main memory' (" in text and "dtype '8 bit' (" in text and "text encoder" not in text
    nothing_away = refusal(
        frames.stream, partial(plan_memory, frames), Room(plan.beside - 1, 100, same=False)
    )
    assert "main memory'" not in nothing_away and "dtype '8 bit' (" in nothing_away
    assert refusal(frames.stream, partial(plan_memory, frames), Room(100, 100, same=False)).endswith(
        "smaller size in Encode Reference"
    )


def test_a_clip_in_chunk_sampler_is_checked_too(frames, monkeypatch):
    """Its plan is that of the stream without pictures; it starts where that fits to the byte, and not below."""
    from talkstream.nodes import budget
    from talkstream.tests.nodes.test_chunk_sampler import sampled

    stream, whole = frames.stream, budget.plan_memory(frames)
    plan = budget.plan_clip_memory(stream)
    assert (plan.cache, plan.decoder) == (whole.cache, 0)
    assert plan.work == budget.chunk_bytes(stream) <= whole.work
    assert plan.weights == whole.weights - frames.vae.patcher.model_size()
    latent = torch.zeros(1, 16, 7, 4, 4)
    monkeypatch.setattr(budget.memory, "room", lambda device: plan.beside)
    made, _ = sampled(stream.model, stream.speech, stream.reference, noise=EmptyNoise(latent))
    assert made.shape == latent.shape
    monkeypatch.setattr(budget.memory, "room", lambda device: plan.beside - 1)
    with pytest.raises(ValueError, match=r"needs .* GB of main memory .* set KV Cache to dtype '8 bit'"):
        sampled(stream.model, stream.speech, stream.reference, noise=EmptyNoise(latent))


class EmptyNoise:
    """A NOISE of zeros."""

    seed = 0

    def __init__(self, latent_BCTHW: torch.Tensor) -> None:
        self.latent_BCTHW = latent_BCTHW

    def generate_noise(self, _):
        return self.latent_BCTHW


class Published:
    """As much of a 14B MODEL on a card as the plan looks at: no weights."""

    load_device = torch.device("cuda")

    def __init__(self) -> None:
        self.model = self
        self.diffusion_model = SimpleNamespace(num_layers=40, dim=5120, num_heads=40)

    def get_dtype_inference(self) -> torch.dtype:
        return torch.bfloat16

    def get_nested_additional_models(self) -> list:
        return []

    def memory_required(self, shape: list[int]) -> int:
        return 2 * 10**9

    def model_size(self) -> int:
        return 37_800_000_000


def test_echotorrent_14b_is_checked_before_it_runs(frames, monkeypatch):
    """400x720 in bf16: 22.3 GiB of KV cache; a card of 16 GB is told what to set, if main memory allows."""
    from talkstream.networks.multitalk_profiles import ECHOTORRENT
    from talkstream.nodes import budget
    from talkstream.samplers.schedule import Schedule
    from talkstream.streaming.spec import StreamSpec

    spec = StreamSpec(
        profile=ECHOTORRENT,
        schedule=Schedule.from_sigmas(ECHOTORRENT.sigmas),
        cache_spec=ECHOTORRENT.cache_spec,
        latent_height=400 // 8,
        latent_width=720 // 8,
        samples=16000,
        sample_rate=16000,
    )
    stream = replace(frames.stream, model=Published(), profile=ECHOTORRENT, spec=spec)
    published = replace(frames, stream=stream)
    plan = budget.plan_memory(published)
    gib = 2**30
    workspace, sink_copy = 2 * 2 * 5120 * 1125 * 17, 2 * 5120 * 1125 * 40
    assert round((plan.cache - workspace - sink_copy) / gib, 1) == 21.5
    assert (round(workspace / gib, 1), round(plan.cache / gib, 1)) == (0.4, 22.3)

    rooms = {"cuda": 16 * 10**9, "cpu": 64 * 10**9}
    monkeypatch.setattr(budget.memory, "room", lambda device: rooms[device.type])
    with pytest.raises(ValueError) as refused:
        budget.check_memory(stream, partial(budget.plan_memory, published))
    text = str(refused.value)
    assert "GB of cuda beside its weights (KV cache 23.9, its past elsewhere 0.0" in text
    assert text.index("set KV Cache to placement 'main memory' (") < text.index("or to dtype '8 bit' (")
    rooms["cpu"] = 10**9
    with pytest.raises(ValueError) as refused:
        budget.check_memory(stream, partial(budget.plan_memory, published))
    assert "main memory'" not in str(refused.value) and "set KV Cache to dtype '8 bit' (" in str(
        refused.value
    )
    rooms["cuda"] = plan.beside
    budget.check_memory(stream, partial(budget.plan_memory, published))
