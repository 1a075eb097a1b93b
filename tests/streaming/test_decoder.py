"""The streaming decoder: the same frames in any chunking, as a whole decode gives them, from any state."""

import copy
from pathlib import Path

import pytest
import torch

from talkstream.model_loaders.vae import open_vae
from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.streaming.decoder import StreamingDecoder

HEIGHT, WIDTH, LATENTS = 4, 6, 7
MINI = Path(__file__).resolve().parents[2] / "assets" / "vae" / "talkstream_mini_vae.safetensors"

either = pytest.mark.parametrize("exact", [False, True], ids=["folded", "exact"])


def random_weights(module, seed=0):
    """Weights of about unit gain, so that differences are not hidden in tiny numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            scale = (2.0 / parameter[0].numel()) ** 0.5 if parameter.ndim > 3 else 0.1
            parameter.copy_(1 + scale * drawn if parameter.ndim > 1 and parameter.ndim < 5 else scale * drawn)
    return module.eval().requires_grad_(False)


def latents_of(count=LATENTS, seed=1, size=(HEIGHT, WIDTH)):
    return torch.randn(1, 16, count, *size, generator=torch.Generator().manual_seed(seed))


def in_pieces_of(code, video, sizes):
    return torch.cat([code(part) for part in video.split(sizes, dim=2)], dim=2)


def in_pieces(decoder, latents, sizes):
    return in_pieces_of(decoder.decode, latents, sizes)


@pytest.fixture(scope="module")
def vae():
    return random_weights(CausalVAE(VAEConfig(dim=8)))


@pytest.fixture(scope="module")
def mini():
    return open_vae(MINI).eval().requires_grad_(False)


@either
@pytest.mark.parametrize("sizes", [[7], [1] * 7, [3, 3, 1], [1, 6], [2, 5], [4, 2, 1]])
def test_any_chunking_gives_the_same_bits(vae, exact, sizes):
    expected = StreamingDecoder(vae, exact=exact).decode(latents_of())
    assert expected.shape == (1, 3, 4 * LATENTS - 3, 8 * HEIGHT, 8 * WIDTH)
    assert torch.equal(in_pieces(StreamingDecoder(vae, exact=exact), latents_of(), sizes), expected)


def test_any_chunking_gives_the_same_bits_in_bfloat16(mini):
    """The format and the shape that TalkStream Mini is decoded in on most new CPUs."""
    latents = latents_of(5, size=(12, 12))
    decoder = StreamingDecoder(mini, dtype=torch.bfloat16)
    expected = decoder.decode(latents)
    assert expected.dtype == torch.bfloat16
    decoder.reset()
    assert torch.equal(in_pieces(decoder, latents, [3, 2]), expected)


@either
def test_equals_the_whole_decode(exact):
    """The VAE's own whole-clip path, without any cache, is the oracle.

    In float64: with random weights both float32 paths are 4e-4 from it, so float32 would hide an error.
    """
    vae = random_weights(CausalVAE(VAEConfig(dim=8))).double()
    whole = vae.decode(latents_of().double())
    assert whole.std() > 0.05
    streamed = StreamingDecoder(vae, exact=exact).decode(latents_of().double())
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(12, 12), (3, 5), (16, 9)])
def test_float32_is_within_1e_5_of_the_whole_decode(mini, size):
    """With weights as trained; latents of unit deviation are what the Mini's own are."""
    latents = latents_of(4, size=size)
    streamed = StreamingDecoder(mini).decode(latents)
    torch.testing.assert_close(streamed, mini.decode(latents), rtol=0, atol=1e-5)


def test_bfloat16_is_as_near_as_a_whole_decode_in_bfloat16(mini):
    """Both are rounded after every layer: neither may be farther from the float32 pictures than the other by much."""
    latents = latents_of(4, size=(12, 12))
    truth = mini.decode(latents)
    whole = copy.deepcopy(mini).bfloat16().decode(latents.bfloat16()).float() - truth
    streamed = StreamingDecoder(mini, dtype=torch.bfloat16).decode(latents).float() - truth
    assert streamed.square().mean() < 1.5 * whole.square().mean()
    assert streamed.abs().max() < 0.06


def test_frames_depend_on_the_past_only(vae):
    """Chunks of three give 9, 12 frames; later latents change nothing before them, earlier ones are remembered."""
    latents = latents_of(6)
    decoder = StreamingDecoder(vae)
    assert [decoder.decode(part).shape[2] for part in latents.split(3, dim=2)] == [9, 12]
    changed = latents.clone()
    changed[:, :, 3:] = 0
    first, second = (StreamingDecoder(vae).decode(x) for x in (latents, changed))
    assert torch.equal(first[:, :, :9], second[:, :, :9])
    fresh = StreamingDecoder(vae).decode(latents[:, :, 3:])
    assert (fresh[:, :, -4:] - first[:, :, -4:]).abs().max() > 1e-3


def test_reset_equals_fresh_and_sessions_are_independent(vae):
    latents, others = latents_of(5, seed=2), latents_of(5, seed=3)
    expected = [StreamingDecoder(vae).decode(x) for x in (latents, others)]
    one, two = StreamingDecoder(vae), StreamingDecoder(vae)
    parts = [
        (one.decode(a), two.decode(b)) for a, b in zip(latents.split(1, 2), others.split(1, 2), strict=True)
    ]
    for decoded, whole in zip(zip(*parts, strict=True), expected, strict=True):
        assert torch.equal(torch.cat(decoded, dim=2), whole)
    one.reset()
    assert one.size_bytes == 0
    assert torch.equal(one.decode(latents), expected[0])


@either
@pytest.mark.parametrize("split", [1, 2, 3])
def test_state_continues_bit_for_bit(vae, exact, split):
    latents = latents_of()
    decoder = StreamingDecoder(vae, exact=exact)
    decoder.decode(latents[:, :, :split])
    state = decoder.state_dict()
    expected = decoder.decode(latents[:, :, split:])
    loaded = StreamingDecoder(vae, exact=exact)
    loaded.load_state_dict({k: v.contiguous() if torch.is_tensor(v) else v for k, v in state.items()})
    assert torch.equal(loaded.decode(latents[:, :, split:]), expected)


def test_memory_does_not_grow(vae):
    decoder = StreamingDecoder(vae)
    decoder.decode(latents_of(3))
    size = decoder.size_bytes
    decoder.decode(latents_of(9))
    assert decoder.size_bytes == size


def test_carried_frames_keep_their_place_in_memory(vae):
    """They used to be allocated anew among each call's temporaries: memory wavered between 200 and 500 MiB."""
    decoder = StreamingDecoder(vae)
    decoder.decode(latents_of(2))
    places = [tail.data_ptr() for tail in decoder._tails]
    decoder.decode(latents_of(4))
    assert [tail.data_ptr() for tail in decoder._tails] == places
    assert all(tail.untyped_storage().nbytes() == tail.nbytes for tail in decoder._tails)


def test_errors_say_what_to_load(vae):
    with pytest.raises(ValueError, match="Wan 2.1"):
        StreamingDecoder(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="expected \\(1, 16, T, H, W\\)"):
        StreamingDecoder(vae).decode(torch.zeros(1, 16, 0, 4, 4))
    with pytest.raises(ValueError, match="another VAE"):
        StreamingDecoder(vae).load_state_dict({"latents": 1, "tails.99": torch.zeros(1)})


def host_vae(dim):
    from comfy.ldm.wan.vae import WanVAE

    return random_weights(WanVAE(dim=dim, z_dim=16, temperal_downsample=[False, True, True]))


@pytest.mark.host
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exact_equals_the_hosts_whole_decode_bit_for_bit(host, dtype):
    """ComfyUI decodes a clip in slices of 1, 2, 2, ... latents, here one latent at a time: TalkStream Mini's shape.

    On one thread: with more, the convolution library sums in another order for another number of frames.
    """
    theirs = host_vae(16).to(dtype)
    latents = latents_of(5, size=(12, 12)).to(dtype)
    with torch.inference_mode():
        whole = theirs.decode(latents)
    for sizes in ([3, 2], [1] * 5):
        assert torch.equal(in_pieces(StreamingDecoder(theirs, exact=True), latents, sizes), whole)


@pytest.mark.host
@pytest.mark.parametrize("size", [(12, 12), (5, 7)])
def test_is_within_1e_5_of_the_hosts_whole_decode(host, mini, size):
    """The host's own VAE with the Mini's weights, in float32, as Decode Stream and VAE Decode see it."""
    theirs = host_vae(16)
    theirs.load_state_dict(mini.state_dict(), strict=True)
    latents = latents_of(5, size=size)
    with torch.inference_mode():
        whole = theirs.decode(latents)
        streamed = in_pieces(StreamingDecoder(theirs), latents, [3, 2])
    torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-5)


@pytest.mark.host
def test_our_vae_equals_the_hosts(host):
    """Another width and an uneven picture, in float64, where no summation order matters."""
    theirs = host_vae(8).double()
    latents = latents_of(5).double()
    with torch.inference_mode():
        whole = theirs.decode(latents)
    ours = CausalVAE(VAEConfig(dim=8)).double().eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for vae in (theirs, ours):
        for exact in (False, True):
            streamed = in_pieces(StreamingDecoder(vae, exact=exact), latents, [3, 2])
            torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-10)


@pytest.mark.host
def test_equals_the_host_bit_for_bit_where_shapes_agree(host):
    """Driven as here, one latent per call with each cache completed to two frames, the host gives our bits."""
    from comfy.ldm.wan.vae import count_cache_layers

    theirs = host_vae(8)
    latents, frames = latents_of(), []
    cache = [None] * count_cache_layers(theirs.decoder)
    with torch.inference_mode():
        for latent in latents.split(1, dim=2):
            before = list(cache)
            frames += theirs.decoder(theirs.conv2(latent), feat_cache=cache, feat_idx=[0])
            for i, (old, new) in enumerate(zip(before, cache, strict=True)):
                if torch.is_tensor(old) and torch.is_tensor(new) and new.shape[2] < 2:
                    cache[i] = torch.cat([old[:, :, -1:], new], dim=2)
    assert torch.equal(StreamingDecoder(theirs, exact=True).decode(latents), torch.cat(frames, dim=2))
