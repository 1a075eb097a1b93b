"""A student of the Mini's family with EchoTorrent's cache rules: its profile says so, the engine needs no more.

Chunks of four latents, a cache for each of four steps, every second layer without history, a sink that starts as the
reference and becomes the first generated latents.
"""

from __future__ import annotations

import torch

from talkstream.networks.kv_cache import GrowingKVCache
from talkstream.networks.profile import StudentProfile
from talkstream.samplers.few_step import denoise_chunk
from talkstream.samplers.noise import SeededNoise
from talkstream.streaming.session import StreamSession
from talkstream.tests.golden.test_echotorrent_stream import PerLayerMask
from talkstream.tests.streaming.parts import RATE, Student, latents_of, voice

ECHO_RULES = {
    "sigmas": (1.0, 0.9375, 5 * 0.5 / (1 + 4 * 0.5), 0.625, 0.0),
    "chunk": 4,
    "history": (12, 0),
    "sink": 4,
    "sink_rule": "before_window",
    "sink_source": "reference_then_first_generated",
    "cache_mode": "per_step",
}
SEED, SECONDS, CHUNKS = 3, 3.68, 6  # 92 frames: 13, then 16 a chunk; from the fifth on latents are forgotten


def double(**changes: object) -> Student:
    """Network and latents in float64; the voice stays in float32."""
    student = Student(**ECHO_RULES | changes)
    student.model.double()
    student.model.audio_proj.float()
    student.picture_BCTHW = student.picture_BCTHW.double()
    return student


def masked_whole(student: Student, session: StreamSession) -> torch.Tensor:
    """The same stream as one sequence of all its latents, whose layers see what their masks let through."""
    latents = 4 * CHUNKS
    shape = (1, 16, 4, 4, 4)
    noise, known = SeededNoise(SEED), session._reference.channels(0, latents)
    speech = student.speech(session._speech._source)
    tokens = torch.cat([speech.tokens(4 * chunk, 4) for chunk in range(CHUNKS)], dim=1).double()

    def velocity(x_BCTHW: torch.Tensor, timestep: float, step: int) -> torch.Tensor:
        return student.model(
            torch.cat([x_BCTHW, known], dim=1),
            timestep_BT=torch.full((1, 1), timestep, dtype=torch.float64),
            text_BMD=torch.zeros(1, 1, 8, dtype=torch.float64),
            audio_tokens_BTE=tokens,
            attention=PerLayerMask(student.profile.history, latents, 4, calls_per_layer=1),
        )

    def drawn(draw) -> torch.Tensor:
        return torch.cat([draw(chunk) for chunk in range(CHUNKS)], dim=2).double()

    return denoise_chunk(
        velocity,
        drawn(lambda chunk: noise.initial(chunk, shape)),
        schedule=session.spec.schedule,
        renoise=lambda step: drawn(lambda chunk: noise.renoise(chunk, step, shape)),
        clamp=session._reference.clamp,
        x0_dtype=torch.float64,
    )


@torch.no_grad()
def test_streamed_equals_whole():
    """Chunk by chunk through the rings, or all six chunks at once under masks: the same latents within 1e-9."""
    student = double(sink=0)
    session = student.open(voice(SECONDS), seed=SEED)
    made = latents_of(session)
    assert made.shape == (1, 16, 4 * CHUNKS, 4, 4)
    torch.testing.assert_close(made, masked_whole(student, session), rtol=0, atol=1e-9)


def test_rings_equal_the_growing_cache():
    """With the sink: the cache that training concatenates gives the same latents within 1e-9, over evictions."""
    student = double()
    made = latents_of(student.open(voice(SECONDS)))
    grown = latents_of(student.open(voice(SECONDS), cache_class=GrowingKVCache))
    torch.testing.assert_close(made, grown, rtol=0, atol=1e-9)


def test_the_sink_becomes_the_first_generated_latents():
    """Chunk 0 is that of a student whose sink stays the reference, the ones behind it are not."""
    made = latents_of(Student(**ECHO_RULES).open(voice(SECONDS)))
    kept = latents_of(Student(**ECHO_RULES | {"sink": 1, "sink_source": "reference"}).open(voice(SECONDS)))
    assert torch.equal(made[:, :, :4], kept[:, :, :4])
    assert float((made[:, :, 4:8] - kept[:, :, 4:8]).abs().max()) > 1e-3


def test_promises_of_length():
    """A limit gives the first frames; a cut voice leaves chunks alone whose sound ends 0.12 s before the cut."""
    student = Student(**ECHO_RULES)
    whole = latents_of(student.open(voice(SECONDS)))
    limited = latents_of(student.open(voice(SECONDS), samples=2 * RATE))
    assert torch.equal(limited, whole[:, :, : limited.shape[2]])
    cut = latents_of(student.open(voice(SECONDS)[:, : 2 * RATE]))  # chunks end at frames 13, 29, 45, 61
    assert torch.equal(cut[:, :, :12], whole[:, :, :12])
    assert not torch.equal(cut[:, :, 12:16], whole[:, :, 12:16])


def test_state_goes_on_bit_identically():
    """Saved before and behind the change of the sink, and loaded into other sessions."""
    student = Student(**ECHO_RULES)
    whole = latents_of(student.open(voice(SECONDS)))
    for chunks in (1, 3):
        first = student.open(voice(SECONDS))
        made = [part.latent_BCTHW for _, part in zip(range(chunks), first.chunks(), strict=False)]
        other = student.open(voice(SECONDS))
        other.load_state_dict(first.state_dict())
        assert torch.equal(torch.cat([*made, latents_of(other)], dim=2), whole)


def test_the_rules_travel_in_the_file():
    """The profile that a file's metadata holds is the one that was written, its cache rules included."""
    profile = Student(**ECHO_RULES).profile
    read = StudentProfile.from_json(profile.to_json())
    assert read == profile
    assert (read.cache_spec.history, read.cache_spec.rings, read.cache_spec.sink_copies) == ((12, 0), 4, 1)
