"""The graph that most tests start from: a tiny student with ears of its own, made of ordinary nodes."""

from __future__ import annotations

SAVE, STREAM, DECODE = "8", "6", "7"


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def flashtalk(*, seconds: float = 1.5) -> dict[str, dict]:
    """The same path with a student of the MultiTalk family, 32 pixels wide and high."""
    return {
        "1": node("TalkStreamLoadStudent", student="flashtalk.safetensors"),
        "2": node("VAELoader", vae_name="wan_2.1_vae.safetensors"),
        "3": node("EmptyImage", width=40, height=48, batch_size=1, color=0x804020),
        "9": node("TestVoice", seconds=seconds, seed=3),
        "10": node("AudioEncoderLoader", audio_encoder_name="wav2vec2-chinese-base_fp16.safetensors"),
        "11": node("TestTextRows", width=16),
        "12": node("TestVisionTokens", width=1280),
        "4": node("TalkStreamEncodeSpeech", model=["1", 0], audio=["9", 0], audio_encoder=["10", 0]),
        "5": node(
            "TalkStreamEncodeReference",
            model=["1", 0],
            vae=["2", 0],
            image=["3", 0],
            width=32,
            height=32,
            clip_vision_output=["12", 0],
        ),
        STREAM: node(
            "TalkStreamStreamChunks",
            model=["1", 0],
            speech=["4", 0],
            reference=["5", 0],
            seed=1,
            conditioning=["11", 0],
        ),
        DECODE: node("TalkStreamDecodeStream", stream=[STREAM, 0], vae=["2", 0]),
        SAVE: node("TalkStreamSaveStream", frames=[DECODE, 0], filename_prefix="flashtalk"),
    }


def tiny(*, seconds: float = 1.0, sample_rate: int = 16000, channels: int = 1) -> dict[str, dict]:
    """Load Student .. Save Stream over a silent voice of so many seconds."""
    return {
        "1": node("TalkStreamLoadStudent", student="tiny.safetensors"),
        "2": node("VAELoader", vae_name="wan_2.1_vae.safetensors"),
        "3": node("EmptyImage", width=40, height=48, batch_size=1, color=0x804020),
        "9": node("EmptyAudio", duration=seconds, sample_rate=sample_rate, channels=channels),
        "4": node("TalkStreamEncodeSpeech", model=["1", 0], audio=["9", 0]),
        "5": node(
            "TalkStreamEncodeReference", model=["1", 0], vae=["2", 0], image=["3", 0], width=0, height=0
        ),
        STREAM: node("TalkStreamStreamChunks", model=["1", 0], speech=["4", 0], reference=["5", 0], seed=1),
        DECODE: node("TalkStreamDecodeStream", stream=[STREAM, 0], vae=["2", 0]),
        SAVE: node("TalkStreamSaveStream", frames=[DECODE, 0], filename_prefix="tiny"),
    }
