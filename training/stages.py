"""From a recipe to stages with their data, and from finished stages to files that ship."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..networks.causal_vae import CausalVAE, VAEConfig
from ..networks.profile import StudentProfile
from ..networks.wan import WanConfig
from ..samplers.guidance import Guidance
from ..samplers.schedule import Schedule
from .codec import CodecStage
from .config import Recipe, StageRecipe
from .data import LatentBank, freeze_codec, load_bank, make_latent_bank, make_lipsync_bank, save_bank
from .dmd import DistilStage
from .domain_rewards import ReadingReward, rare_visemes
from .experts import ExpertSettings, ExpertStage
from .export import export_codec, export_refiner, export_student
from .finetune import FinetuneStage
from .flow import FlowStage
from .latent_reader import train_latent_reader
from .mini import MEL, NETWORK, SPEECH, mini_profile, with_cache
from .mini_echo import echo_profile
from .mini_lipsync import LIPSYNC_NETWORK, lipsync_profile
from .ode import OdeSettings, OdeStage
from .parallel import is_main, main_first
from .perceptual import perceptual_loss
from .refiner import RefinerStage
from .reward import SyncConfidence
from .sampling import load_codec_file
from .speech import FaceRegressor, SpeechStage, load_speech_bank, make_bank, save_speech_bank
from .student import TrainableStudent
from .sync_reward import SyncReward
from .sync_stage import SyncNetStage
from .syncnet import load_syncnet
from .teacher import TeacherStage
from .teacher_sampling import Teacher
from .trainer import Stage
from .trajectories import load_trajectories, make_trajectories, save_trajectories
from .world.acting import DOMAINS
from .world.dataset import load

log = logging.getLogger(__name__)

_STATISTICS_CLIPS = 48
_FOLDED = "folded_codec.pt"


def build_stage(recipe: Recipe, index: int, *, device: torch.device, sharded: bool = False) -> Stage:
    """The stage of a recipe at this place, started from what came before it.

    sharded: its networks are split over the processes; codec and speech encoder are small and stay whole.
    """
    part = recipe.stages[index]
    before = recipe.stages[index - 1] if index else None
    makers = {
        "codec": partial(_codec, before=before), "speech": _speech,
        "teacher": partial(_teacher, before=before, sharded=sharded),
        "finetune": partial(_finetune, before=before, sharded=sharded),
        "ode": partial(_ode, before=before, sharded=sharded), "expert": partial(_expert, sharded=sharded),
        "distil": partial(_distil, before=before, sharded=sharded), "syncnet": _syncnet,
        "refiner": _refiner,
    }  # fmt: skip
    return makers[part.stage](recipe, part.settings, device=device)


def export_results(recipe: Recipe, stage: Stage | None) -> None:
    """Write the files that the recipe asks for from its last stage. All processes call it, the main one writes."""
    if recipe.export_codec is not None and isinstance(stage, CodecStage) and is_main():
        vae = stage.vae.cpu()
        freeze_codec(vae, load(recipe.data_folder).frames[:_STATISTICS_CLIPS])
        torch.save(vae.state_dict(), recipe.folder / _FOLDED)
        export_codec(recipe.export_codec, vae)
    if recipe.export_refiner is not None and isinstance(stage, RefinerStage) and is_main():
        stage.average.copy_to(stage.vae.decoder)
        export_refiner(recipe.export_refiner, stage.vae.cpu())
    if recipe.export_student is not None and isinstance(stage, (FinetuneStage, OdeStage, DistilStage)):
        stage.average.copy_to(stage.student)
        student = stage.student
        export_student(recipe.export_student, student.network, student.encoder, _profile(recipe))


def load_codec(recipe: Recipe) -> CausalVAE:
    """The frozen codec that the recipe works with. Raises ValueError where it names none."""
    if recipe.codec is None:
        raise ValueError(
            "the recipe names no codec; set codec: to an exported file or to the folder of a finished codec recipe"
        )
    return read_codec(recipe.codec)


def read_codec(path: Path) -> CausalVAE:
    """A codec whose statistics are folded: an exported file, or the folder of a finished codec recipe, in float32.

    Raises FileNotFoundError for neither.
    """
    folded = path / _FOLDED if path.is_dir() else path
    if not folded.is_file():
        raise FileNotFoundError(
            f"{path} holds no finished codec; expected a .safetensors file, or a folder in which a codec recipe left "
            f"{_FOLDED}: run that recipe to its end"
        )
    if folded == path:
        return load_codec_file(path)
    tensors = torch.load(folded, map_location="cpu", weights_only=True)
    vae = CausalVAE(VAEConfig(dim=tensors["decoder.head.0.gamma"].shape[0]))
    vae.load_state_dict(tensors)
    return vae.eval()


def _codec(recipe: Recipe, settings: object, *, device: torch.device, before: StageRecipe | None) -> Stage:
    """Continues the stage before it; the first one starts from the recipe's codec, or from nothing."""
    stage = CodecStage(settings, load(recipe.data_folder), load(recipe.held_out_folder), device=device)
    if before is None and recipe.start is not None:
        stage.start_from(read_codec(recipe.start))
    if before is not None:
        stage.vae.load_state_dict(_stage_weights(recipe.folder / before.folder, "vae"))
        if not before.settings.decoder_only:
            freeze_codec(stage.vae, load(recipe.data_folder).frames[:_STATISTICS_CLIPS])
    return stage


def _speech(recipe: Recipe, settings: object, *, device: torch.device) -> Stage:
    banks = []
    for name, held_out in (("train", False), ("held_out", True)):
        path = recipe.folder / f"{name}_speech.npz"
        with main_first():
            if not path.exists():
                log.info("speaking %s sentences", name)
                save_speech_bank(path, make_bank(settings, MEL, held_out=held_out, workers=2))
        banks.append(load_speech_bank(path))
    return SpeechStage(settings, SPEECH, *banks, device=device)


def _banks(recipe: Recipe) -> tuple[LatentBank, LatentBank]:
    """Encoded clips, made once per folder."""
    banks = []
    for name, folder, versions in (
        ("train", recipe.data_folder, recipe.versions),
        ("held_out", recipe.held_out_folder, 1),
    ):
        path = recipe.folder / f"{name}_latents.npz"
        with main_first():
            if not path.exists():
                log.info("encoding %s", folder)
                save_bank(path, _encode(recipe, folder, versions=versions))
        banks.append(load_bank(path))
    return banks[0], banks[1]


def dubbed_folder(folder: Path) -> Path:
    """Where the clips of a folder lie that were drawn again with another voice."""
    return folder.with_name(f"{folder.name}_dubbed")


def _encode(recipe: Recipe, folder: Path, *, versions: int) -> LatentBank:
    vae, clips = load_codec(recipe), load(folder)
    if recipe.lip_sync:
        return make_lipsync_bank(clips, load(dubbed_folder(folder)), vae, MEL, versions=versions)
    return make_latent_bank(clips, vae, MEL, versions=versions)


def _network(recipe: Recipe) -> WanConfig:
    return LIPSYNC_NETWORK if recipe.lip_sync else NETWORK


def _profile(recipe: Recipe) -> StudentProfile:
    """The form as the recipe changes it, at the size of its clips."""
    changed = with_cache(_form(recipe), sink=recipe.sink, history=recipe.history)
    return replace(changed, width=recipe.data.side, height=recipe.data.side)


def _form(recipe: Recipe) -> StudentProfile:
    if recipe.form == "mini_echo":
        if recipe.lip_sync:
            raise ValueError("form mini_echo starts from a portrait; leave lip_sync out of the recipe")
        return echo_profile()
    return lipsync_profile() if recipe.lip_sync else mini_profile()


def _teacher(
    recipe: Recipe, settings: object, *, device: torch.device, before: StageRecipe | None, sharded: bool
) -> Stage:
    stage = TeacherStage(
        settings, *_banks(recipe), network=_network(recipe), speech=SPEECH, device=device, sharded=sharded
    )
    return _begin(stage, recipe, before)


def _finetune(
    recipe: Recipe, settings: object, *, device: torch.device, before: StageRecipe | None, sharded: bool
) -> Stage:
    stage = FinetuneStage(
        settings, *_banks(recipe), network=_network(recipe), speech=SPEECH, cache=_profile(recipe).cache_spec,
        sigmas=_profile(recipe).sigmas, device=device, sharded=sharded,
    )  # fmt: skip
    return _begin(stage, recipe, before)


def _begin(stage: FlowStage, recipe: Recipe, before: StageRecipe | None) -> Stage:
    """Go on from the stage before, from an earlier run's, or anew behind this run's speech encoder."""
    if before is not None and before.stage != "speech":
        stage.start_from(_averaged(recipe.folder / before.folder))
    elif recipe.start is not None:
        stage.start_from(_averaged(recipe.start))
    else:
        regressor = _stage_weights(recipe.folder / "speech", "regressor")
        encoder = {k.removeprefix("encoder."): v for k, v in regressor.items() if k.startswith("encoder.")}
        stage.student.encoder.load_state_dict(encoder)
    return stage


def _ode(
    recipe: Recipe, settings: OdeSettings, *, device: torch.device, before: StageRecipe | None, sharded: bool
) -> Stage:
    """Regresses on trajectories of an earlier run's teacher, which are made once per folder."""
    profile = _profile(recipe)
    levels, chunk = profile.sigmas[:-1], profile.cache_spec.chunk
    guidance = Guidance(text=settings.sampling.text_guidance, audio=settings.sampling.audio_guidance)
    both = []
    for name, bank, pairs in zip(
        ("train", "held_out"), _banks(recipe), (settings.pairs, settings.held_out_pairs), strict=True
    ):
        path = recipe.folder / f"{name}_trajectories.npz"
        with main_first():
            if not path.exists():
                log.info("sampling %d trajectories of the teacher, %s", pairs, name)
                made = make_trajectories(
                    Teacher(_earlier(recipe, "ode", device), guidance=guidance), bank, pairs=pairs,
                    sampling=settings.sampling, levels=levels, latents=bank.latents.shape[2] // chunk * chunk,
                    seed=settings.seed,
                )  # fmt: skip
                save_trajectories(path, made)
        both.append((bank, load_trajectories(path, levels=levels)))
    stage = OdeStage(
        settings,
        *both,
        network=_network(recipe),
        speech=SPEECH,
        cache=profile.cache_spec,
        device=device,
        sharded=sharded,
    )
    return _begin(stage, recipe, before)


def _expert(recipe: Recipe, settings: ExpertSettings, *, device: torch.device, sharded: bool) -> Stage:
    """Every expert starts from the same teacher, an earlier run's. Raises ValueError where it should be sharded."""
    if sharded:
        raise ValueError("the expert stage samples whole networks; leave --shard out")
    bank, held_out = _banks(recipe)
    reader = train_latent_reader(bank.latents, bank.mouth, steps=settings.reader_steps, device=device)
    reward = ReadingReward(settings.domain, reader, rare_visemes(bank.mouth))
    teacher = _earlier(recipe, "expert", device)
    return ExpertStage(settings, bank, held_out, teacher=teacher, reward=reward)


def _distil(
    recipe: Recipe, settings: object, *, device: torch.device, before: StageRecipe | None, sharded: bool
) -> Stage:
    """Distils into the stage before it, or where it is the first, into an earlier run's.

    The teacher is the recipe's, else what the distillation began with. A second distillation keeps the fake score.
    """
    start = recipe.start if before is None else recipe.folder / before.folder
    if start is None:
        raise ValueError(
            "the recipe begins with distil; set start: to the folder of a finished finetune stage"
        )
    unknown = sorted(set(recipe.experts) - set(DOMAINS))
    if unknown:
        raise ValueError(f"experts has domains {unknown}; allowed: {', '.join(DOMAINS)}")
    experts = {
        DOMAINS.index(name): _trained(recipe, folder, device) for name, folder in recipe.experts.items()
    }
    profile = _profile(recipe)
    goes_on = before is not None and before.stage == "distil"
    judge = recipe.teacher or (recipe.start if goes_on else None) or start
    stage = DistilStage(
        settings, *_banks(recipe), student=_trained(recipe, start, device), teacher=_trained(recipe, judge, device),
        experts=experts, syncnet=_sync_judge(recipe, device), cache=profile.cache_spec,
        schedule=Schedule.from_sigmas(profile.sigmas), sharded=sharded,
    )  # fmt: skip
    if goes_on:
        stage.go_on_from_fake(_stage_weights(start, "fake"))
    return stage


def _sync_judge(recipe: Recipe, device: torch.device) -> SyncConfidence | None:
    """The sync teacher that the recipe names, on what its codec decodes."""
    if recipe.syncnet is None:
        return None
    return SyncConfidence(SyncReward(load_syncnet(recipe.syncnet).to(device), load_codec(recipe).to(device)))


def _syncnet(recipe: Recipe, settings: object, *, device: torch.device) -> Stage:
    return SyncNetStage(settings, load(recipe.data_folder), load(recipe.held_out_folder), device=device)


def _refiner(recipe: Recipe, settings: object, *, device: torch.device) -> Stage:
    """Refines the recipe's codec for the student that start: names, with the eyes of its SyncNet."""
    if recipe.start is None or recipe.syncnet is None:
        raise ValueError(
            f"a refiner needs start: and syncnet:, got {recipe.start} and {recipe.syncnet}; set them to the folders of "
            "a finished student stage and of a finished syncnet stage"
        )
    drawn = [recipe.data_folder, recipe.held_out_folder]
    clips = [load(dubbed_folder(folder) if recipe.lip_sync else folder) for folder in drawn]
    profile = _profile(recipe)
    trunk = load_syncnet(recipe.syncnet).trunk.to(device)
    return RefinerStage(
        settings, *clips, banks=_banks(recipe), vae=load_codec(recipe), device=device,
        student=_trained(recipe, recipe.start, device), perceive=partial(perceptual_loss, trunk),
        cache=profile.cache_spec, schedule=Schedule.from_sigmas(profile.sigmas),
    )  # fmt: skip


def _earlier(recipe: Recipe, stage: str, device: torch.device) -> TrainableStudent:
    """The teacher that an earlier run left. Raises ValueError where the recipe names none."""
    folder = recipe.teacher or recipe.start
    if folder is None:
        raise ValueError(
            f"the stage {stage} needs a trained network; set teacher: or start: to a finished stage's folder"
        )
    return _trained(recipe, folder, device)


def _trained(recipe: Recipe, folder: Path, device: torch.device) -> TrainableStudent:
    return read_network(folder, _network(recipe)).to(device)


def read_network(folder: Path, config: WanConfig) -> TrainableStudent:
    """The network that a finished stage left in its folder, of this size, its running average where there is one."""
    network = TrainableStudent(config, SPEECH, torch.Generator().manual_seed(0))
    network.load_state_dict(_averaged(folder))
    return network


def read_regressor(folder: Path) -> FaceRegressor:
    """What a finished speech stage left in its folder: the speech encoder and its reading of faces."""
    regressor = FaceRegressor(SPEECH)
    regressor.load_state_dict(_stage_weights(folder, "regressor"))
    return regressor


def _averaged(folder: Path) -> dict[str, Tensor]:
    """A student's weights from a stage's checkpoint, the running average where there is one."""
    average = {k: v for k, v in _stage_weights(folder, "average").items() if k != "updates"}
    return {**_stage_weights(folder, "student"), **average}


def _stage_weights(folder: Path, name: str) -> dict:
    """One entry of a stage's checkpoint."""
    return torch.load(folder / "training.pt", map_location="cpu", weights_only=True)["stage"][name]
