"""Small random models in the files that experiments read, clips of noise, and judges that have learnt nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from talkstream.networks.causal_vae import CausalVAE, VAEConfig
from talkstream.tests.training.tiny_world import random_bank
from talkstream.training.codec_init import initialise_codec
from talkstream.training.data import LatentBank
from talkstream.training.export import export_codec, export_student
from talkstream.training.initialisation import initialise
from talkstream.training.measure import Judges
from talkstream.training.mini import NETWORK, SPEECH, mini_profile
from talkstream.training.mouth_measures import MouthManifold
from talkstream.training.reader import FaceReader
from talkstream.training.student import TrainableStudent
from talkstream.training.syncnet import SyncNet, SyncNetConfig
from talkstream.training.world.acting import DOMAINS
from talkstream.training.world.clips import Clip
from talkstream.training.world.dataset import DatasetSize

SMALL = replace(NETWORK, dim=32, ffn_dim=48, num_heads=1, num_layers=2, text_dim=24)
SIDE = 32


def write_codec(path: Path) -> Path:
    """A codec of width 4 that has learnt nothing."""
    vae = CausalVAE(VAEConfig(dim=4))
    initialise_codec(vae, torch.Generator().manual_seed(0))
    export_codec(path, vae, dtype=torch.float32)
    return path


def random_network(seed: int = 0) -> TrainableStudent:
    """A network of size SMALL."""
    return TrainableStudent(SMALL, SPEECH, torch.Generator().manual_seed(seed))


def write_stage(folder: Path, seed: int = 0) -> Path:
    """A finished stage that left a network of size SMALL."""
    folder.mkdir(parents=True)
    weights = random_network(seed).state_dict()
    torch.save({"stage": {"student": weights, "average": {"updates": 1}}}, folder / "training.pt")
    return folder


def write_student(path: Path) -> Path:
    """An exported student of size SMALL in the Mini's form."""
    network = random_network()
    profile = replace(mini_profile(), width=SIDE, height=SIDE)
    export_student(path, network.network, network.encoder, profile)
    return path


def encoded_bank() -> LatentBank:
    """Two clips of 15 latents, as many mel bands as the Mini hears."""
    bank = random_bank(2)
    mel = np.random.default_rng(0).random((*bank.mel.shape[:3], SPEECH.bins)).astype(np.float16)
    return replace(bank, mel=mel, domain=np.zeros(2, np.int8))


def write_syncnet(folder: Path) -> Path:
    """A finished SyncNet stage that has learnt nothing."""
    folder.mkdir()
    torch.save({"stage": {"syncnet": SyncNet(SyncNetConfig()).state_dict()}}, folder / "training.pt")
    return folder


def write_clips(folder: Path, size: DatasetSize) -> None:
    """Noise in place of what dataset.generate would draw."""
    folder.mkdir()
    random, shape = np.random.default_rng(0), (size.clips, size.frames)
    frames = random.integers(0, 256, (*shape, size.side, size.side, 3), dtype=np.uint8)
    samples = np.zeros((size.clips, 640 * size.frames), np.float16)
    tracks = {"frames": frames, "samples": samples, "mouth": random.random((*shape, 5)).astype(np.float32)}
    for name, track in tracks.items():
        np.save(folder / f"{name}.npy", track)
    described = asdict(size) | {"domains": list(size.domains)}
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")


def noise_clips(folder: Path, *, per_domain: int, frames: int, side: int) -> list[Clip]:
    """In place of held_out.held_out_clips: noise that says noise, one clip after another through the domains."""
    random = np.random.default_rng(0)
    place = np.tile(np.array([0.5, 0.71, 0.2, 0.12], np.float32), (frames, 1))
    return [
        Clip(
            random.integers(0, 256, (frames, side, side, 3), dtype=np.uint8),
            random.standard_normal(640 * frames).astype(np.float32) / 10,
            random.random((frames, 5)).astype(np.float32), np.zeros((frames, 8)), place, DOMAINS[index % 4],
        )
        for index in range(2 * per_domain)
    ]  # fmt: skip


def untrained_judges(*_: object, **__: object) -> Judges:
    """In place of measure.make_judges: a reader with random weights."""
    reader = FaceReader()
    initialise(reader, torch.Generator().manual_seed(0))
    return Judges(reader, MouthManifold(np.random.default_rng(0).random((50, 3)), 0.5))
