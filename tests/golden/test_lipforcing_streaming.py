"""Lip Forcing through the streaming engine: its 65 channels chunk by chunk, a whole run of a session."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talkstream.networks.audio_pack import pack_vectors
from talkstream.networks.profile import LIPFORCING
from talkstream.samplers.noise import RecordedNoise
from talkstream.samplers.schedule import Schedule
from talkstream.streaming.network import LocalNetwork
from talkstream.streaming.session import StreamSession
from talkstream.streaming.source_latents import SourceConditioning
from talkstream.streaming.spec import StreamSpec
from talkstream.tests.golden.test_livetalk_streaming import GivenSpeech
from talkstream.tests.golden.wan_golden import Golden, build, close

RATE = 16000


@pytest.fixture(scope="module")
def golden(golden_file) -> Golden:
    return Golden(golden_file("lipforcing_tiny.safetensors"))


class RecordedVideo:
    """Recorded latents in place of encoded ones."""

    def __init__(self, golden: Golden) -> None:
        self.pairs = torch.cat([golden["in.ref_sequence"], golden["in.masked_video"]])

    def read(self, first_latent: int, latents: int) -> Tensor:
        return self.pairs[:, :, first_latent : first_latent + latents]


def conditioning(golden: Golden) -> SourceConditioning:
    """The golden's mask is in the file's polarity: 1 keeps."""
    return SourceConditioning(RecordedVideo(golden), 1 - golden["in.mask"], golden["in.ref_latent"])


class Watched(LocalNetwork):
    """A network that keeps its inputs."""

    seen: list[Tensor]

    def velocity(self, x_BCTHW, **options):
        self.seen.append(x_BCTHW)
        return super().velocity(x_BCTHW, **options)


def test_a_session_makes_the_recorded_latents_from_the_recorded_inputs(golden):
    """Six chunks, free run: every network input's noisy part and every latent within 1e-4, its other 49 exact."""
    model, steps = build(golden), len(LIPFORCING.sigmas) - 1
    start, again = golden["in.noise"], golden["in.eps_step1"]
    chunks = [slice(first, first + 3) for first in range(0, start.shape[2], 3)]
    draws = {(b, 0): start[:, :, part] for b, part in enumerate(chunks)}
    draws |= {(b, 1): again[:, :, part] for b, part in enumerate(chunks)}
    spec = StreamSpec(
        profile=LIPFORCING,
        schedule=Schedule.from_sigmas(LIPFORCING.sigmas),
        cache_spec=LIPFORCING.cache_spec,
        latent_height=start.shape[-2],
        latent_width=start.shape[-1],
        samples=(4 * start.shape[2] - 3) * RATE // 25,
        sample_rate=RATE,
    )
    network = Watched(model, text_BMD=golden["in.text_embeds"])
    network.seen = []
    tokens = model.audio_proj(pack_vectors(golden["in.audio_emb"], prefix_copies=3))
    session = StreamSession(
        spec,
        network,
        cache=network.make_cache(spec.cache_spec, spec.grid),
        speech=GivenSpeech(tokens),
        reference=conditioning(golden),
        noise=RecordedNoise(draws),
    )
    with session:
        made = torch.cat([part.latent_BCTHW for part in session.chunks()], dim=2)
    close(made, golden["out.rollout_window7_sink1_dynamic_rope"], 1e-4)
    whole = torch.cat([
        golden["in.ref_latent"].expand(-1, -1, start.shape[2], -1, -1),
        (1 - golden["in.mask"]).expand(1, 1, start.shape[2], -1, -1),
        golden["in.masked_video"],
        golden["in.ref_sequence"],
    ], dim=1)  # fmt: skip
    for call, seen in enumerate(network.seen):
        chunk, step = divmod(call, steps + 1)  # the last one of each chunk is its clean pass
        assert torch.equal(seen[:, 16:], whole[:, :, chunks[chunk]])
        if step < steps:
            close(seen[:, :16], golden[f"dynamic.chunk{chunk}.step{step}.x_in"], 1e-4)
