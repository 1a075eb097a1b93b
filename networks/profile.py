"""What a student was trained for and its tensors do not say: schedule, cache, sizes, speech, licence."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, Literal

from .cache_spec import CacheMode, CacheSpec, SinkRule, SinkSource

METADATA_KEY = "talkstream_profile"

FAMILIES = ("audiopack", "multitalk")
SPEECH_ENCODERS = ("wav2vec2", "mel")
TIMESTEP_ROUNDINGS = ("none", "bf16")
X0_DTYPES = ("float32", "float64")
TEXT_RULES = ("required", "null")
NOISE_RULES = ("seeded", "recorded", "given")
TAILS = ("silence", "mirror")
SAMPLERS = ("renoise", "euler")
FRAMES_PER_LATENT = 4


@dataclass(frozen=True)
class MelProfile:
    """Log-mel front end of a student that needs no wav2vec2; lengths in samples at ``sample_rate``.

    The pcen numbers are the constants of per-channel energy normalisation (librosa.pcen).
    """

    sample_rate: int = 16000
    bins: int = 64
    window_samples: int = 400
    hop_samples: int = 160
    lowest_hz: float = 50.0
    highest_hz: float = 8000.0
    pcen_gain: float = 0.98
    pcen_bias: float = 2.0
    pcen_power: float = 0.5
    pcen_seconds: float = 0.4
    pcen_eps: float = 1e-6

    def __post_init__(self) -> None:
        """Check every field. Raises ValueError."""
        for name in ("sample_rate", "bins", "window_samples", "hop_samples"):
            _check_at_least(f"mel {name}", getattr(self, name), 1)
        if not 0 <= self.lowest_hz < self.highest_hz <= self.sample_rate / 2:
            raise ValueError(
                f"mel band {self.lowest_hz}..{self.highest_hz} Hz must rise and stay below "
                f"half the rate of {self.sample_rate} Hz."
            )


@dataclass(frozen=True)
class SpeechProfile:
    """How speech becomes one vector per video frame.

    feature_slots x feature_width: layers of the encoder and their width, one vector per video frame.
    prefix_copies: copies of the first vector in front, so that four vectors make one latent.
    past_seconds, ahead_seconds: audio heard before and after a chunk where speech is encoded in windows.
    uncovered_frames: a whole clip of N vectors is encoded from N - uncovered_frames frames of sound: 1 puts the first
    vector on its start and the last on its end (LiveTalk), 0 lets every vector cover its frame (Lip Forcing).
    window_frames: vectors around each video frame that its latent hears (MultiTalk: 5).
    loudness_lufs: level that the voice is brought to before encoding, None for its own.
    late_frames: vectors stand so many frames after their sound, behind zeros (OmniAvatar: 1); whole clips only.
    tail: what a chunk hears behind the end of the voice: silence, or its last vectors in reverse (InfiniteTalk).
    """

    encoder: Literal["wav2vec2", "mel"]
    feature_slots: int
    feature_width: int
    prefix_copies: int = 3
    past_seconds: float = 5.0
    ahead_seconds: float = 0.5
    mel: MelProfile | None = None
    uncovered_frames: int = 1
    window_frames: int = 1
    loudness_lufs: float | None = None
    tail: Literal["silence", "mirror"] = "silence"
    late_frames: int = 0

    def __post_init__(self) -> None:
        """Check every field. Raises ValueError."""
        _check_choice("speech encoder", self.encoder, SPEECH_ENCODERS)
        _check_choice("speech tail", self.tail, TAILS)
        _check_at_least("window_frames", self.window_frames, 1)
        if self.window_frames % 2 == 0:
            raise ValueError(f"window_frames is {self.window_frames}; it must be odd.")
        _check_at_least("feature_slots", self.feature_slots, 1)
        _check_at_least("feature_width", self.feature_width, 1)
        _check_at_least("prefix_copies", self.prefix_copies, 0)
        _check_at_least("uncovered_frames", self.uncovered_frames, 0)
        _check_at_least("late_frames", self.late_frames, 0)
        if self.past_seconds < 0 or self.ahead_seconds < 0:
            raise ValueError(
                f"speech window {self.past_seconds}/{self.ahead_seconds} s must not be negative."
            )
        if (self.mel is None) == (self.encoder == "mel"):
            raise ValueError(
                f"speech encoder '{self.encoder}' and mel settings {self.mel} do not fit together."
            )

    @property
    def features(self) -> int:
        """Numbers per video frame."""
        return self.feature_slots * self.feature_width


@dataclass(frozen=True)
class StudentProfile:
    """Everything about a student that its tensors do not say.

    Lengths are latent frames; sigmas fall from at most 1 to exactly 0; sizes are pixels; fps is a fraction.
    ``history`` is one number, or a pattern that repeats over the layers. ``source`` says why this profile
    was taken. ``offline`` says why a network that loads does not stream; empty for a student that does.

    Of the MultiTalk family: ``motion_frames`` are the last pictures of a chunk that the next one starts from, 0
    where the KV cache is all the history; such a student sees a chunk without cache. ``sampler`` renoises x0 with
    fresh noise or takes Euler steps. ``text_guidance`` and ``audio_guidance`` are 1 for a distilled student.
    ``colour_match`` (0..1) draws each picture's colours to the reference's. ``condition_latents`` are the latents of
    the conditioning clip, the picture and grey behind it. ``text_rows`` is what the text is padded to, 0 for nothing.
    """

    name: str
    speech: SpeechProfile
    sigmas: tuple[float, ...]
    fps_num: int
    width: int
    height: int
    family: str = "audiopack"
    chunk: int = 3
    history: int | tuple[int, ...] = 3
    sink: int = 9
    sink_rule: SinkRule = "absolute"
    sink_offset: int = 0
    sink_source: SinkSource = "first_latents"
    cache_mode: CacheMode = "clean"
    timestep_rounding: Literal["none", "bf16"] = "none"
    context_timestep: float = 0.0
    clamp_first_latent: bool = True
    first_mask_bit: int = 0
    later_mask_bit: int = 1
    x0_dtype: Literal["float32", "float64"] = "float64"
    noise_rule: Literal["seeded", "recorded", "given"] = "seeded"
    fps_den: int = 1
    size_multiple: int = 16
    discarded_first_frames: int = 0
    text: Literal["required", "null"] = "required"
    motion_frames: int = 0
    sampler: Literal["renoise", "euler"] = "renoise"
    text_guidance: float = 1.0
    audio_guidance: float = 1.0
    colour_match: float = 0.0
    condition_latents: int = 1
    text_rows: int = 0
    licence: str = ""
    source: str = ""
    offline: str = ""

    def __post_init__(self) -> None:
        """Check every field. Raises ValueError naming the field, the value and what is allowed."""
        if isinstance(self.history, list):
            object.__setattr__(self, "history", tuple(self.history))
        object.__setattr__(self, "sigmas", tuple(self.sigmas))
        _check_choice("family", self.family, FAMILIES)
        _check_choice("timestep_rounding", self.timestep_rounding, TIMESTEP_ROUNDINGS)
        _check_choice("x0_dtype", self.x0_dtype, X0_DTYPES)
        _check_choice("noise_rule", self.noise_rule, NOISE_RULES)
        _check_choice("text", self.text, TEXT_RULES)
        _check_choice("sampler", self.sampler, SAMPLERS)
        _check_sigmas(self.sigmas)
        for name in ("fps_num", "fps_den", "size_multiple", "width", "height"):
            _check_at_least(name, getattr(self, name), 1)
        if self.width % self.size_multiple or self.height % self.size_multiple:
            raise ValueError(
                f"size {self.width}x{self.height} must be a multiple of {self.size_multiple} pixels."
            )
        self._check_motion()
        for name in ("first_mask_bit", "later_mask_bit"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or 1.")
        if not 0 <= self.discarded_first_frames < self.frames_in_chunk(0):
            raise ValueError(f"discarded_first_frames is {self.discarded_first_frames}; the first chunk has "
                             f"{self.frames_in_chunk(0)} frames.")  # fmt: skip
        _ = self.cache_spec

    def _check_motion(self) -> None:
        frames = self.frames_in_chunk(0)
        if self.motion_frames and not (0 < self.motion_frames < frames and self.motion_frames % 4 == 1):
            raise ValueError(
                f"motion_frames is {self.motion_frames}; it must be 4 n + 1 (1, 5, 9, ...) and below the "
                f"{frames} frames of a chunk, or 0."
            )
        if not 0 <= self.colour_match <= 1:
            raise ValueError(f"colour_match is {self.colour_match}; it must be between 0 and 1.")
        _check_at_least("motion_frames", self.motion_frames, 0)
        _check_at_least("condition_latents", self.condition_latents, 1)
        _check_at_least("text_rows", self.text_rows, 0)

    @property
    def steps(self) -> int:
        """Denoising steps per chunk."""
        return len(self.sigmas) - 1

    @property
    def cache_spec(self) -> CacheSpec:
        """The cache as the student was trained with."""
        history = (self.history,) if isinstance(self.history, int) else self.history
        return CacheSpec(
            chunk=self.chunk,
            sink=self.sink,
            history=history,
            sink_rule=self.sink_rule,
            sink_offset=self.sink_offset,
            sink_source=self.sink_source,
            mode=self.cache_mode,
            steps=self.steps,
        )

    def frames_in_chunk(self, index: int) -> int:
        """Pixel frames of chunk ``index``: the stream's first latent is one frame, the others are four."""
        return FRAMES_PER_LATENT * self.chunk - (FRAMES_PER_LATENT - 1 if index == 0 else 0)

    def to_json(self) -> str:
        """JSON text for the metadata of a safetensors file, under METADATA_KEY."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> StudentProfile:
        """Read what to_json wrote. Raises ValueError for unknown or missing keys and bad values."""
        values = _known_keys(cls, json.loads(text), "profile")
        speech = _known_keys(SpeechProfile, values["speech"], "profile.speech")
        if speech.get("mel") is not None:
            speech["mel"] = MelProfile(**_known_keys(MelProfile, speech["mel"], "profile.speech.mel"))
        return cls(**{**values, "speech": SpeechProfile(**speech)})


def _known_keys(cls: type, values: Any, where: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {type(values).__name__}; expected a JSON object.")
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{where} has unknown keys {unknown}; allowed: {sorted(known)}.")
    required = [field.name for field in fields(cls) if field.default is MISSING]
    missing = [key for key in required if key not in values]
    if missing:
        raise ValueError(f"{where} lacks {missing}.")
    return dict(values)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is '{value}'; allowed: {', '.join(allowed)}.")


def _check_at_least(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least {least}.")


def _check_sigmas(sigmas: tuple[float, ...]) -> None:
    falling = all(a > b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if len(sigmas) < 2 or not falling or sigmas[-1] != 0.0 or sigmas[0] > 1.0:
        raise ValueError(f"sigmas are {sigmas}; they must fall strictly from at most 1 to exactly 0.")


WAV2VEC2_BASE = SpeechProfile(encoder="wav2vec2", feature_slots=14, feature_width=768)

LIVETALK = StudentProfile(
    name="livetalk",
    speech=WAV2VEC2_BASE,
    sigmas=(1.0, 0.9375, 5 * 0.5 / (1 + 4 * 0.5), 0.625, 0.0),
    fps_num=16,
    width=512,
    height=512,
    history=3,
    sink=9,
    sink_rule="absolute",
    timestep_rounding="bf16",
    licence="unclear: the README says Apache-2.0, LICENSE.md says CC BY-NC-SA 4.0",
)

LIPFORCING = StudentProfile(
    name="lipforcing",
    speech=replace(WAV2VEC2_BASE, uncovered_frames=0),
    sigmas=(0.999, 0.769, 0.0),
    fps_num=25,
    width=512,
    height=512,
    history=3,
    sink=1,
    sink_rule="before_window",
    clamp_first_latent=False,
    first_mask_bit=1,
    licence="Apache-2.0",
)

AVATARFORCING = StudentProfile(
    name="avatarforcing",
    speech=WAV2VEC2_BASE,
    sigmas=(1.0, 5 * 0.8 / (1 + 4 * 0.8), 5 * 0.4 / (1 + 4 * 0.4), 5 * 0.2 / (1 + 4 * 0.2), 0.0),
    fps_num=25,
    width=832,
    height=480,
    chunk=4,
    history=2,
    sink=1,
    sink_rule="before_window",
    licence="unclear: the README says Apache-2.0, LICENSE.txt is an academic licence",
    offline="it denoises four chunks at four noise levels in one call and hears 1.92 s ahead, while a stream here "
    "finishes one chunk before the next; use LiveTalk, which has the same network",
)

_TEACHER_SPEECH = replace(WAV2VEC2_BASE, uncovered_frames=0)
_TEACHER_SIGMAS = tuple(5 * u / (1 + 4 * u) for u in (1 - step / 50 for step in range(50))) + (0.0,)
_TEACHER = (
    "it is a teacher: it denoises a whole clip forwards and backwards in time, in about 50 steps with guidance 4.5; "
    "stream with a student that was distilled from it, {student}, or run one clip with Teacher Clip and core's "
    "KSampler"
)

OMNIAVATAR = StudentProfile(
    name="omniavatar",
    speech=replace(_TEACHER_SPEECH, late_frames=1),
    sigmas=_TEACHER_SIGMAS,
    fps_num=25,
    width=512,
    height=512,
    chunk=21,
    history=0,
    sink=0,
    licence="Apache-2.0",
    offline=_TEACHER.format(student="LiveTalk"),
)

OMNIAVATAR_LS = replace(
    OMNIAVATAR,
    name="omniavatar_ls",
    speech=_TEACHER_SPEECH,
    clamp_first_latent=False,
    first_mask_bit=1,
    offline=_TEACHER.format(student="Lip Forcing"),
)

PROFILES: dict[str, StudentProfile] = {
    profile.name: profile for profile in (LIVETALK, LIPFORCING, AVATARFORCING, OMNIAVATAR, OMNIAVATAR_LS)
}
