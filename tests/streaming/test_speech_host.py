"""The same speech code on the wav2vec2 inside ComfyUI's AUDIO_ENCODER."""

from __future__ import annotations

import pytest
import torch

from talkstream.audio.sources import ClipSource
from talkstream.networks.wav2vec2 import Wav2Vec2Config
from talkstream.streaming.speech_wav2vec import WholeClipSpeech, WindowedSpeech, encoder_from_modules
from talkstream.tests.streaming.speech_parts import PROFILE, random_audio_proj, random_wav2vec2, voice

# The host's class fixes the convolutions, the positional kernel and a four times wider MLP.
CONFIG = Wav2Vec2Config(conv_width=512, width=32, heads=2, layers=3, ffn_width=128)


@pytest.mark.host
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_hosts_modules_give_the_same_tokens(host, dtype):
    """Weights in float16 are cast to the activations' float32 at every use."""
    import comfy.ops
    from comfy.audio_encoders.wav2vec2 import Wav2Vec2Model

    ours = random_wav2vec2(CONFIG)
    theirs = Wav2Vec2Model(
        embed_dim=32, num_heads=2, num_layers=3, conv_norm=False, conv_bias=False, do_normalize=False,
        do_stable_layer_norm=False, dtype=dtype, device="cpu", operations=comfy.ops.manual_cast,
    ).eval()  # fmt: skip
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict({k: v.float() for k, v in theirs.state_dict().items()})
    encoders = [encoder_from_modules(model) for model in (ours, theirs)]
    source, audio_proj = ClipSource(voice(16000, 3.0), 16000), random_audio_proj()
    whole = [
        WholeClipSpeech(source, e, audio_proj, profile=PROFILE, latents=12, fps_num=16).tokens(0, 12)
        for e in encoders
    ]
    windows = [
        WindowedSpeech(source, e, audio_proj, profile=PROFILE, fps_num=16).tokens(6, 3) for e in encoders
    ]
    torch.testing.assert_close(whole[0], whole[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(windows[0], windows[1], atol=1e-5, rtol=0)
