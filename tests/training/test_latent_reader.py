"""Reader on latents: which frames belong to which latent, what it learns, and where its gradient goes."""

from __future__ import annotations

import numpy as np
import torch

from talkstream.training.latent_reader import (
    EYES,
    LatentReader,
    frames_of_latents,
    mouths_of_latents,
    train_latent_reader,
    with_predecessors,
)


def test_every_frame_belongs_to_one_latent():
    """Frame 0 is latent 0, four times; frames 4t - 3 to 4t are latent t."""
    frames = torch.arange(9.0)[None, :, None].expand(2, 9, 5)
    numbers = mouths_of_latents(frames)[0, :, :, 0]
    assert numbers.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_the_latent_before_the_first_is_the_first():
    clip = torch.arange(4.0).view(1, 1, 4, 1, 1)
    assert with_predecessors(clip).flatten().tolist() == [0, 0, 1, 2]


def test_learns_the_mouth_that_latents_hold_and_looks_nowhere_else():
    """Clips whose mouth cells hold the opening: read to 0.01; cells above the mouth get no gradient."""
    random = np.random.default_rng(0)
    mouth = random.random((32, 17, 5), dtype=np.float32)
    latents = 0.1 * random.standard_normal((32, 12, 5, 8, 8)).astype(np.float32)
    shown = mouths_of_latents(torch.from_numpy(mouth)).flatten(2).transpose(1, 2).numpy()
    latents[:, :, :, 5:7, 3:5] += shown[..., None, None]
    reader = train_latent_reader(latents, mouth, steps=400, device=torch.device("cpu"))
    clips = torch.from_numpy(latents).requires_grad_()
    error = (reader(with_predecessors(clips), clips) - mouths_of_latents(torch.from_numpy(mouth))).square()
    assert error.mean() < 0.01 < mouth[..., :3].var() / 5
    error.mean().backward()
    assert clips.grad[..., :4, :].abs().max() == 0
    assert clips.grad[..., 5:7, 3:5].abs().min() > 0


def test_learns_how_open_the_eyes_are_and_looks_at_them_only():
    """One number of each frame, in the eyes' cells: read to 0.01; the mouth's cells get no gradient."""
    random = np.random.default_rng(0)
    eyes = random.random((32, 17, 1), dtype=np.float32)
    latents = 0.1 * random.standard_normal((32, 12, 5, 8, 8)).astype(np.float32)
    shown = frames_of_latents(torch.from_numpy(eyes)).flatten(2).transpose(1, 2).numpy()
    latents[:, :4, :, 3:4, 3:5] += shown[..., None, None]
    reader = train_latent_reader(latents, eyes, steps=400, device=torch.device("cpu"), part=EYES)
    clips = torch.from_numpy(latents).requires_grad_()
    error = (reader(with_predecessors(clips), clips) - frames_of_latents(torch.from_numpy(eyes))).square()
    assert error.shape == (32, 5, 4, 1) and error.mean() < 0.01 < eyes.var() / 5
    error.mean().backward()
    assert clips.grad[..., 5:, :].abs().max() == 0
    assert clips.grad[..., 3:4, 3:5].abs().min() > 0


def test_rows_and_columns_of_an_odd_grid():
    reader = LatentReader(2, 7, 9)
    read = reader(torch.zeros(1, 2, 3, 7, 9), torch.zeros(1, 2, 3, 7, 9))
    assert read.shape == (1, 3, 4, 3)
