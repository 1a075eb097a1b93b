"""The streaming encoder: the same latents in any chunking, as a whole encode gives them, from any state."""

import pytest
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.streaming.encoder import StreamingEncoder
from talkstream.tests.streaming.test_decoder import host_vae, in_pieces_of, random_weights

FRAMES = 13  # four latents

either = pytest.mark.parametrize("exact", [False, True], ids=["folded", "exact"])


def frames_of(count=FRAMES, seed=1, size=(16, 24)):
    return torch.rand(1, 3, count, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def in_pieces(encoder, frames, sizes):
    return in_pieces_of(encoder.encode, frames, sizes)


@pytest.fixture(scope="module")
def vae():
    return random_weights(CausalVAE(VAEConfig(dim=8)))


@either
def test_equals_the_whole_encode_in_any_chunking(exact):
    """The VAE's own whole-clip path, without any cache, is the oracle; in float64 no summation order matters."""
    vae = random_weights(CausalVAE(VAEConfig(dim=8))).double()
    frames = frames_of().double()
    whole = vae.encode(frames)
    assert whole.std() > 0.05
    expected = StreamingEncoder(vae, exact=exact).encode(frames)
    torch.testing.assert_close(expected, whole, rtol=0, atol=1e-10)
    for sizes in ([1, 4, 4, 4], [9, 4], [5, 8]):
        assert torch.equal(in_pieces(StreamingEncoder(vae, exact=exact), frames, sizes), expected)


@either
def test_state_continues_bit_for_bit_and_reset_equals_fresh(vae, exact):
    frames = frames_of()
    encoder = StreamingEncoder(vae, exact=exact)
    start = encoder.encode(frames[:, :, :5])
    state = encoder.state_dict()
    expected = encoder.encode(frames[:, :, 5:])
    size = encoder.size_bytes
    encoder.encode(frames[:, :, 5:])
    assert encoder.size_bytes == size
    loaded = StreamingEncoder(vae, exact=exact)
    loaded.load_state_dict(state)
    assert torch.equal(loaded.encode(frames[:, :, 5:]), expected)
    encoder.reset()
    assert torch.equal(encoder.encode(frames[:, :, :5]), start)


def test_latents_depend_on_the_past_only(vae):
    frames = frames_of()
    changed = frames.clone()
    changed[:, :, 9:] = 0
    first, second = (StreamingEncoder(vae).encode(x) for x in (frames, changed))
    assert torch.equal(first[:, :, :3], second[:, :, :3])
    assert (first[:, :, 3] - second[:, :, 3]).abs().max() > 1e-3


def test_errors_say_what_was_expected(vae):
    with pytest.raises(ValueError, match="1 \\+ 4 n frames"):
        StreamingEncoder(vae).encode(frames_of(4))
    with pytest.raises(ValueError, match="multiples of 8"):
        StreamingEncoder(vae).encode(frames_of(5, size=(12, 16)))
    with pytest.raises(ValueError, match="can be encoded with"):
        StreamingEncoder(torch.nn.Linear(2, 2))


@pytest.mark.host
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_equals_the_hosts_whole_encode_bit_for_bit(host, dtype):
    """ComfyUI encodes a clip in slices of 1, 2, 2, ... frames and holds latents back in pairs. On one thread."""
    theirs = host_vae(16).to(dtype)
    frames = frames_of(17, size=(96, 96)).to(dtype)
    with torch.inference_mode():
        whole = theirs.encode(frames)
    for sizes in ([9, 8], [1, 4, 12]):
        assert torch.equal(in_pieces(StreamingEncoder(theirs, exact=True), frames, sizes), whole)
    folded = StreamingEncoder(theirs).encode(frames)
    torch.testing.assert_close(folded, whole, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.2)
