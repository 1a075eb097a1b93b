"""Model files for a test server: small, of the true key layouts, random."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from talkstream.model_loaders.multitalk import is_audio
from talkstream.networks.multitalk import MultiTalkConfig
from talkstream.networks.multitalk_profiles import ECHOTORRENT
from talkstream.networks.profile import METADATA_KEY, MelProfile, SpeechProfile, StudentProfile
from talkstream.networks.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from talkstream.networks.wan import WanConfig, WanModel
from talkstream.tests.fakes import write_sharded, write_tiny_audiopack, write_tiny_wan_vae, write_wav2vec2

WIDTH = 16  # of a speech feature
MEL = MelProfile(bins=20, lowest_hz=60.0, highest_hz=7600.0, pcen_gain=0.95, pcen_bias=1.0, pcen_power=0.4)


def mel_profile(**changes) -> StudentProfile:
    """A student that brings its own ears, 32 pixels wide, two steps, 25 frames per second."""
    settings = {
        "name": "tiny",
        "speech": SpeechProfile("mel", 1, WIDTH, ahead_seconds=0.12, mel=MEL),
        "sigmas": (1.0, 0.8, 0.0),
        "fps_num": 25,
        "width": 32,
        "height": 32,
        "history": 3,
        "sink": 3,
        "sink_rule": "before_window",
        "text": "null",
    }
    return StudentProfile(**{**settings, **changes})


def hybrid_profile() -> StudentProfile:
    """The same student with EchoTorrent's cache rules; a sink of four, because latent 0 is the reference anyway."""
    rules = ("sigmas", "chunk", "history", "sink_rule", "sink_source", "cache_mode")
    return mel_profile(name="hybrid", sink=4, **{rule: getattr(ECHOTORRENT, rule) for rule in rules})


def mel_tensors(*, in_dim: int = 33) -> dict[str, torch.Tensor]:
    """Random tensors of the smallest student that ComfyUI's Wan loader takes (one head of 128)."""
    config = WanConfig(
        dim=128, in_dim=in_dim, ffn_dim=128, num_heads=1, num_layers=4, text_dim=16, audio_in=4 * WIDTH
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network, ears = (
            WanModel(config),
            SpeechEncoder(
                SpeechEncoderConfig(bins=MEL.bins, width=WIDTH, hidden=WIDTH, blocks=2, ahead_mel=12)
            ),
        )
        network.initialize(torch.Generator().manual_seed(7))
        torch.nn.init.normal_(network.head.head.weight, std=0.05)
        for projection in network.audio_cond_projs:
            torch.nn.init.normal_(projection.weight, std=0.1)
    return {**network.state_dict(), **ears.state_dict(prefix="speech_encoder.")}


def write_students(folder: Path) -> None:
    """Good and bad students, by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {METADATA_KEY: mel_profile().to_json()}
    tensors = mel_tensors()
    save_file(tensors, str(folder / "tiny.safetensors"), metadata=metadata)
    save_file(
        tensors, str(folder / "hybrid.safetensors"), metadata={METADATA_KEY: hybrid_profile().to_json()}
    )
    fewer = {name: tensor for name, tensor in tensors.items() if not name.startswith("blocks.2.ffn")}
    save_file(fewer, str(folder / "missing_keys.safetensors"), metadata=metadata)
    save_file(mel_tensors(in_dim=65), str(folder / "lip_sync.safetensors"), metadata=metadata)
    whole = (folder / "tiny.safetensors").read_bytes()
    (folder / "cut_off.safetensors").write_bytes(whole[: len(whole) // 2])
    plain = {name: tensor for name, tensor in tensors.items() if not name.startswith(("audio_", "speech_"))}
    save_file(plain, str(folder / "plain_wan.safetensors"))
    write_tiny_audiopack(folder / "livetalk_1.3b.safetensors", dim=128, layers=6, ffn_dim=256)


def multitalk_tensors() -> dict[str, torch.Tensor]:
    """Random tensors of the smallest MultiTalk student that ComfyUI's Wan loader takes, in FlashTalk's names."""
    config = WanConfig(
        dim=128,
        in_dim=36,
        ffn_dim=128,
        num_heads=1,
        num_layers=2,
        text_dim=16,
        image_in=1280,
        multitalk=MultiTalkConfig(hidden=8, tokens=4, token_width=16),
    )
    with torch.random.fork_rng():
        torch.manual_seed(8)
        network = WanModel(config)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5 * parameter.shape[-1] ** -0.5)
    return network.state_dict()


def write_multitalk(folder: Path) -> None:
    """FlashTalk as one file and as shards, InfiniteTalk as audio part and Wan network, EchoTorrent with its profile."""
    tensors = multitalk_tensors()
    metadata = {METADATA_KEY: ECHOTORRENT.to_json()}
    save_file(tensors, str(folder / "echotorrent_14b.safetensors"), metadata=metadata)
    save_file(tensors, str(folder / "flashtalk.safetensors"))
    write_sharded(tensors, folder / "SoulX-FlashTalk-14B", "diffusion_pytorch_model")
    parts = {True: "infinitetalk_multi.safetensors", False: "wan2.1_i2v_480p_14B_fp16.safetensors"}
    for audio, name in parts.items():
        part = {key: tensor for key, tensor in tensors.items() if is_audio(key) == audio}
        save_file(part, str(folder / name))


def write_models(models: Path) -> None:
    """What the tests' graphs load, under the names that the shipped workflows use."""
    write_students(models / "diffusion_models")
    write_multitalk(models / "diffusion_models")
    write_tiny_wan_vae(models / "vae" / "wan_2.1_vae.safetensors")
    encoder = write_wav2vec2(models / "audio_encoders" / "wav2vec2_base_960h.safetensors")
    encoder.with_name("wav2vec2-chinese-base_fp16.safetensors").hardlink_to(encoder)
    # Core loads a wav2vec2 with whatever is missing in it; this one is looked at by its header alone.
    worded = {"wav2vec2.encoder.layer_norm.bias": torch.zeros(768), "lm_head.weight": torch.zeros(32, 768)}
    save_file(worded, str(encoder.with_name("with_word_head.safetensors")))
