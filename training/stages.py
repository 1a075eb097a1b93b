"""From a recipe to stages with their data, and from finished stages to files that ship."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import torch

from ..networks.causal_vae import CausalVAE, VAEConfig
from ..samplers.schedule import Schedule
from .codec import CodecStage
from .config import Recipe, StageRecipe
from .data import LatentBank, freeze_codec, load_bank, make_latent_bank, save_bank
from .dmd import DistilStage
from .export import export_codec, export_student
from .finetune import FinetuneStage
from .mini import MEL, NETWORK, SIGMAS, SPEECH, mini_profile
from .speech import SpeechStage, load_speech_bank, make_bank, save_speech_bank
from .student import TrainableStudent
from .trainer import Stage
from .world.dataset import load

log = logging.getLogger(__name__)

_STATISTICS_CLIPS = 48
_FOLDED = "folded_codec.pt"


def build_stage(recipe: Recipe, index: int, *, device: torch.device) -> Stage:
    """The stage of a recipe at this place, started from what came before it."""
    part = recipe.stages[index]
    before = recipe.stages[index - 1] if index else None
    makers = {
        "codec": partial(_codec, before=before), "speech": _speech, "finetune": _finetune, "distil": _distil,
    }  # fmt: skip
    return makers[part.stage](recipe, part.settings, device=device)


def export_results(recipe: Recipe, stage: Stage | None) -> None:
    """Write the files that the recipe asks for from its last stage."""
    if recipe.export_codec is not None and isinstance(stage, CodecStage):
        vae = stage.vae.cpu()
        freeze_codec(vae, load(recipe.data_folder).frames[:_STATISTICS_CLIPS])
        torch.save(vae.state_dict(), recipe.folder / _FOLDED)
        export_codec(recipe.export_codec, vae)
    if recipe.export_student is not None and isinstance(stage, (FinetuneStage, DistilStage)):
        stage.average.copy_to(stage.student)
        student = stage.student.cpu()
        export_student(recipe.export_student, student.network, student.encoder, mini_profile())


def load_codec(recipe: Recipe) -> CausalVAE:
    """The frozen codec, statistics folded, that an earlier recipe left. Raises ValueError where none is named."""
    if recipe.codec is None:
        raise ValueError("the recipe names no codec; set codec: to the folder of a finished codec recipe")
    tensors = torch.load(recipe.codec / _FOLDED, map_location="cpu", weights_only=True)
    vae = CausalVAE(VAEConfig(dim=tensors["decoder.head.0.gamma"].shape[0]))
    vae.load_state_dict(tensors)
    return vae.eval()


def _codec(recipe: Recipe, settings: object, *, device: torch.device, before: StageRecipe | None) -> Stage:
    """Continues the stage before it, or starts from nothing."""
    stage = CodecStage(settings, load(recipe.data_folder), load(recipe.held_out_folder), device=device)
    if before is not None:
        stage.vae.load_state_dict(_stage_weights(recipe.folder / before.folder, "vae"))
        if not before.settings.decoder_only:
            freeze_codec(stage.vae, load(recipe.data_folder).frames[:_STATISTICS_CLIPS])
    return stage


def _speech(recipe: Recipe, settings: object, *, device: torch.device) -> Stage:
    banks = []
    for name, held_out in (("train", False), ("held_out", True)):
        path = recipe.folder / f"{name}_speech.npz"
        if not path.exists():
            log.info("speaking %s sentences", name)
            save_speech_bank(path, make_bank(settings, MEL, held_out=held_out))
        banks.append(load_speech_bank(path))
    return SpeechStage(settings, MEL, *banks, device=device)


def _banks(recipe: Recipe) -> tuple[LatentBank, LatentBank]:
    """Encoded clips, made once per folder."""
    banks = []
    for name, folder, versions in (
        ("train", recipe.data_folder, recipe.versions),
        ("held_out", recipe.held_out_folder, 1),
    ):
        path = recipe.folder / f"{name}_latents.npz"
        if not path.exists():
            log.info("encoding %s", folder)
            save_bank(path, make_latent_bank(load(folder), load_codec(recipe), MEL, versions=versions))
        banks.append(load_bank(path))
    return banks[0], banks[1]


def _finetune(recipe: Recipe, settings: object, *, device: torch.device) -> Stage:
    profile = mini_profile()
    stage = FinetuneStage(
        settings,
        *_banks(recipe),
        network=NETWORK,
        speech=SPEECH,
        cache=profile.cache_spec,
        sigmas=SIGMAS,
        device=device,
    )
    regressor = _stage_weights(recipe.folder / "speech", "regressor")
    encoder = {k.removeprefix("encoder."): v for k, v in regressor.items() if k.startswith("encoder.")}
    stage.student.encoder.load_state_dict(encoder)
    return stage


def _distil(recipe: Recipe, settings: object, *, device: torch.device) -> Stage:
    profile = mini_profile()
    teacher = TrainableStudent(NETWORK, SPEECH, torch.Generator().manual_seed(0))
    start = recipe.start or recipe.folder / "finetune"
    teacher.load_state_dict(_stage_weights(start, "student"))
    average = _stage_weights(start, "average")
    teacher.load_state_dict({k: v for k, v in average.items() if k != "updates"}, strict=False)
    return DistilStage(
        settings, *_banks(recipe), teacher=teacher.to(device), cache=profile.cache_spec,
        schedule=Schedule.from_sigmas(SIGMAS),
    )  # fmt: skip


def _stage_weights(folder: Path, name: str) -> dict:
    """One entry of a stage's checkpoint."""
    return torch.load(folder / "training.pt", map_location="cpu", weights_only=True)["stage"][name]
