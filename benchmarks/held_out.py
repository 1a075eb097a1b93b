"""What experiments measure on: clips of every domain that no training saw, and judges that are trained once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from ..audio.mel import MelFrontEnd
from ..networks.audio_pack import FRAMES_PER_LATENT
from ..networks.causal_vae import CausalVAE
from ..networks.speech_encoder import MEL_PER_FRAME
from ..training.codec import to_tensor
from ..training.conditions import PortraitCondition
from ..training.data import Batch, encode_normalised
from ..training.measure import Judges, Measures, Subject, make_judges, measure
from ..training.mini import MEL
from ..training.mouth_measures import MouthManifold
from ..training.reader import FaceReader, ReaderSettings
from ..training.syncnet import load_syncnet
from ..training.world.acting import DOMAINS
from ..training.world.clips import FPS, SAMPLE_RATE, Clip
from ..training.world.dataset import DatasetSize, generate, load

HELD_OUT_SEED = 80_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
_SEEDS_PER_DOMAIN = 1000


def held_out_clips(folder: Path, *, per_domain: int, frames: int, side: int) -> list[Clip]:
    """So many held-out clips of each domain, drawn once into the folder; frames stay on disk."""
    clips = []
    for index, domain in enumerate(DOMAINS):
        size = DatasetSize(
            clips=per_domain, frames=frames, side=side, first_seed=HELD_OUT_SEED + index * _SEEDS_PER_DOMAIN,
            held_out=True, motion="spoken", domains=(domain,),
        )  # fmt: skip
        where = folder / f"{side}_{frames}_{per_domain}_{domain}"
        generate(where, size)
        data = load(where)
        rows = zip(data.frames, data.samples, data.mouth, data.pose, data.place, strict=True)
        clips += [Clip(f, s.astype(np.float32), m, p, box, domain) for f, s, m, p, box in rows]
    return clips


def batch_of(clips: list[Clip], vae: CausalVAE, *, latents: int) -> Batch:
    """Clips from their start as a batch of portraits that speak, clean speech. vae: its statistics are folded."""
    frames = FRAMES_PER_LATENT * latents - 3
    with torch.no_grad():
        encoded = torch.cat([encode_normalised(vae, to_tensor(c.frames[None, :frames])) for c in clips])
    front_end = MelFrontEnd(MEL)
    mel = np.stack([front_end.whole(c.samples)[: MEL_PER_FRAME * frames] for c in clips])
    return Batch(
        latents=encoded,
        mel=torch.from_numpy(mel.astype(np.float32)),
        mouth=torch.from_numpy(np.stack([c.mouth[:frames] for c in clips])),
        condition=PortraitCondition(encoded[:, :, :1]),
        domain=torch.tensor([DOMAINS.index(c.domain) for c in clips]),
        place=torch.from_numpy(np.stack([c.place[:frames] for c in clips])),
    )


def subject(clip: Clip, frames: np.ndarray, *, stretch: slice = slice(None)) -> Subject:
    """What was generated for a clip, or a stretch of it in frames, as a clip to be judged.

    It is to be as sharp as the drawn clip, so that codecs compare.
    """
    first, stop, _ = stretch.indices(len(frames))
    return Subject(
        frames[first:stop],
        clip.samples[SAMPLES_PER_FRAME * first : SAMPLES_PER_FRAME * stop],
        clip.mouth[first:stop],
        portrait=clip.frames[0],
        like=clip.frames[first:stop],
    )


def measure_clips(
    clips: list[Clip], made: list[np.ndarray], judges: Judges, *, stretch: slice = slice(None)
) -> Measures:
    """Measures of what was generated for these clips, or of the same stretch of each."""
    return measure([subject(c, f, stretch=stretch) for c, f in zip(clips, made, strict=True)], judges)


def bound_sentence(clips: list[Clip], judges: Judges) -> str:
    """What the judges find in the drawn clips themselves: no student can be seen to do better."""
    m = measure_clips(clips, [np.asarray(clip.frames) for clip in clips], judges)
    sync = "" if m.sync_c is None else f" and a Sync-C of {m.sync_c:.2f}"
    return f"In the drawn clips themselves the judges find r = {m.r_open:.3f}{sync}."


def refined(vae: CausalVAE, refiner: Path) -> CausalVAE:
    """The codec with a refined decoder's weights in place of its own. Raises ValueError for another codec's."""
    tensors = {name: tensor.float() for name, tensor in load_file(refiner).items()}
    own = vae.state_dict()
    strange = sorted(n for n, t in tensors.items() if n not in own or own[n].shape != t.shape)
    if strange:
        raise ValueError(
            f"{refiner} does not fit the codec: {strange[0]} and {len(strange) - 1} more; give the file that the "
            "refiner's recipe exported for this codec"
        )
    changed = CausalVAE(vae.config)
    changed.load_state_dict({**own, **tensors})
    return changed.eval().requires_grad_(False)


def cached_judges(folder: Path, vae: CausalVAE, *, clips: int, side: int, syncnet: Path | None) -> Judges:
    """Judges for a codec, trained once and kept in the folder. syncnet: folder of a finished syncnet stage."""
    scores_sync = None if syncnet is None else load_syncnet(syncnet)  # first: it may not be there
    path = folder / f"judges_{_fingerprint(vae)}_{side}_{clips}.pt"
    if not path.exists():
        judges = make_judges(vae, clips=clips, side=side)
        folder.mkdir(parents=True, exist_ok=True)
        manifold = {"points": torch.from_numpy(judges.manifold.points), "limit": judges.manifold.limit}
        torch.save({"reader": judges.reader.state_dict(), **manifold}, path)
    kept = torch.load(path, weights_only=True)
    reader = FaceReader()
    reader.load_state_dict(kept["reader"])
    manifold = MouthManifold(kept["points"].numpy(), kept["limit"])
    return Judges(reader.requires_grad_(False), manifold, scores_sync)


def _fingerprint(vae: CausalVAE) -> str:
    """Of the codec's weights, and of the reader's form: another one is trained anew."""
    digest = hashlib.sha256(f"{FaceReader()} {ReaderSettings()}".encode())
    for tensor in vae.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:12]
