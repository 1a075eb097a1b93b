"""What published students need beside them: exact files, where they come from, and where ComfyUI looks for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A file to get. folder: inside ComfyUI's models folder."""

    file: str
    origin: str
    size: str
    folder: str

    def line(self) -> str:
        """One line for a user."""
        return f"{self.file} ({self.size}, from {self.origin}) goes into models/{self.folder}"


WAN_VAE = Source("wan_2.1_vae.safetensors", "ComfyUI's Wan 2.1 files", "0.25 GB", "vae")
UMT5 = Source("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "ComfyUI's Wan 2.1 files", "6.7 GB", "text_encoders")
WAV2VEC2 = Source(
    "model.safetensors, renamed to wav2vec2_base_960h.safetensors",
    "facebook/wav2vec2-base-960h",
    "0.4 GB",
    "audio_encoders",
)
CHINESE_WAV2VEC2 = Source(
    "wav2vec2-chinese-base_fp16.safetensors",
    "ComfyUI's files of TencentGameMate/chinese-wav2vec2-base",
    "0.2 GB",
    "audio_encoders",
)
CLIP_VISION = Source("clip_vision_h.safetensors", "ComfyUI's Wan 2.1 files", "1.3 GB", "clip_vision")
WAN_I2V = Source(
    "wan2.1_i2v_480p_14B_fp16.safetensors", "ComfyUI's Wan 2.1 files", "32.8 GB", "diffusion_models"
)
LIVETALK = Source("model.safetensors", "GAIR/LiveTalk-1.3B-V0.1", "2.8 or 5.7 GB", "diffusion_models")
LIPFORCING = Source("lipforcing_14b.pth", "JinhyukJang/lipforcing", "28.6 GB", "diffusion_models")
AVATARFORCING = Source("model.pt", "lycui/AvatarForcing", "size unknown", "diffusion_models")
OMNIAVATAR_LS = Source("teacher/omniavatar_ls_14b.pt", "JinhyukJang/lipforcing", "1.2 GB", "diffusion_models")
WAN_1_3B = Source(
    "diffusion_pytorch_model.safetensors", "Wan-AI/Wan2.1-T2V-1.3B", "5.7 GB", "diffusion_models"
)
WAN_14B = Source(
    "diffusion_pytorch_model-*.safetensors with their index",
    "Wan-AI/Wan2.1-T2V-14B",
    "57 GB",
    "diffusion_models",
)
MINI_VAE = Source("talkstream_mini_vae.safetensors", "this pack", "included", "vae")

STUDENTS = (LIVETALK, LIPFORCING)
WAN_BY_WIDTH = {1536: WAN_1_3B, 5120: WAN_14B}
_COMMON = (WAN_VAE, UMT5, WAV2VEC2)
_SPEAKING = (WAN_VAE, UMT5, CLIP_VISION, CHINESE_WAV2VEC2)
_BESIDE = {
    "flashtalk": _SPEAKING,
    "infinitetalk": (*_SPEAKING, WAN_I2V),
    "livetalk": _COMMON,
    "lipforcing": _COMMON,
    "avatarforcing": _COMMON,
    "omniavatar": _COMMON,
    "omniavatar_ls": _COMMON,
    "talkstream_mini": (MINI_VAE,),
    "talkstream_mini_lipsync": (MINI_VAE,),
}


def published_as(*, dim: int, in_dim: int) -> Source | None:
    """The published student of this width and these input channels; None where there is no such."""
    return {(1536, 33): LIVETALK, (5120, 65): LIPFORCING}.get((dim, in_dim))


def beside(profile: str) -> tuple[Source, ...]:
    """The files that a student needs besides its own; none that we know for a name of the user's."""
    return _BESIDE.get(profile, ())
