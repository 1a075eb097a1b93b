"""Another ear for a finished student, and how far a voice moves it; neither needs clips with pictures.

Command: python -m talkstream.training.hearing --student STUDENT [STUDENT] --out STUDENT [--encoder FOLDER]
    [--gain 1.2] --speech runs/v1_teacher/train_speech.npz
Of two students, before and after a training that their speech encoder took no part in, the mean is taken.
A speech encoder learns from speech alone and may go on learning when a student behind it is finished. Its features
then mean something else; its last matrix is chosen anew, so that they mean what the student knows.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from ..networks.audio_pack import pack_vectors
from ..networks.profile import StudentProfile
from ..networks.speech_encoder import SpeechEncoder
from .export import export_student
from .sampling import load_student
from .speech import FaceRegressor, SpeechBank, faces_of, load_speech_bank
from .stages import read_regressor
from .student import TrainableStudent

CLIPS = 800  # of speech, to solve for the matrix: a hundred thousand frames for some thousand numbers a row
RIDGE = 1e-6
BATCH = 50


@torch.no_grad()
def lay_under(regressor: FaceRegressor, known: SpeechEncoder, bank: SpeechBank) -> SpeechEncoder:
    """The regressor's encoder, with features that mean what those of `known` mean.

    Its last matrix is the least-squares map of its last layer to the features of `known`, changed by the smallest
    matrix for which the linear reading of faces from `known` reads what the regressor reads. Both encoders are of one
    width. bank: speech that they are compared on.
    """
    encoder = copy.deepcopy(regressor.encoder).eval()
    below = copy.deepcopy(encoder)
    below.out = nn.Identity()
    layer_NH, features_NV = (_with_one(_heard(ear, bank)) for ear in (below, known))
    faces_NF = torch.from_numpy(faces_of(bank)).flatten(0, 1).double()
    map_VH = _least_squares(layer_NH, features_NV[:, :-1])
    reading_FV = _least_squares(features_NV, faces_NF)
    gap_FH = _reading_of(regressor) - reading_FV[:, :-1] @ map_VH
    gap_FH[:, -1] -= reading_FV[:, -1]
    map_VH += torch.linalg.pinv(reading_FV[:, :-1]) @ gap_FH
    encoder.out.weight.copy_(map_VH[:, :-1, None])
    encoder.out.bias.copy_(map_VH[:, -1])
    return encoder


@torch.no_grad()
def move_further(student: TrainableStudent, bank: SpeechBank, gain: float) -> None:
    """Lay the student's audio tokens `gain` times as far from their mean over the bank as they were, in place.

    What regresses a mouth opens it too little, by about its correlation. Tokens leave a layer norm, so only behind it
    do larger ones mean a wider mouth.
    """
    norm = student.network.audio_proj.norm_out
    tokens_BTE = torch.cat([student.network.audio_proj(speech) for speech in _packed(student.encoder, bank)])
    mean_E = tokens_BTE.mean((0, 1))
    norm.weight *= gain
    norm.bias.copy_(mean_E + gain * (norm.bias - mean_E))


def _heard(encoder: SpeechEncoder, bank: SpeechBank) -> Tensor:
    """What an encoder makes of the bank: (frames of all clips, V) float64."""
    return torch.cat([encoder(mel) for mel in _mel(bank)]).flatten(0, 1).double()


def _packed(encoder: SpeechEncoder, bank: SpeechBank) -> list[Tensor]:
    """Features of the bank as latents hear them; clips are cut to whole latents."""
    frames = (bank.mouth.shape[1] + 3) // 4 * 4 - 3
    return [pack_vectors(encoder(mel)[:, :frames]) for mel in _mel(bank)]


def _mel(bank: SpeechBank) -> tuple[Tensor, ...]:
    return torch.from_numpy(bank.mel).float().split(BATCH)


def _with_one(rows_NC: Tensor) -> Tensor:
    return torch.cat([rows_NC, rows_NC.new_ones(len(rows_NC), 1)], dim=1)


def _least_squares(x_NC: Tensor, y_NR: Tensor) -> Tensor:
    """(R, C), the map of x to y."""
    ridge = RIDGE * len(x_NC) * torch.eye(x_NC.shape[1], dtype=x_NC.dtype)
    return torch.linalg.solve(x_NC.T @ x_NC + ridge, x_NC.T @ y_NR).T


def _reading_of(regressor: FaceRegressor) -> Tensor:
    """(F, H + 1), the regressor's faces from its encoder's last layer and a one."""
    face, out = regressor.face, regressor.encoder.out
    matrix = face.weight.double() @ out.weight[:, :, 0].double()
    return torch.cat(
        [matrix, (face.weight.double() @ out.bias.double() + face.bias.double())[:, None]], dim=1
    )


@torch.no_grad()
def _mean(paths: list[Path]) -> tuple[TrainableStudent, StudentProfile]:
    """The mean weights of students of one size, with the first one's profile."""
    (student, profile), *others = (load_student(path) for path in paths)
    states = [student.state_dict(), *(other.state_dict() for other, _ in others)]
    student.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return student, profile


def main() -> None:
    """Read a student's file, change it, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--speech", type=Path, required=True, help="speech bank of the speech stage")
    parser.add_argument("--encoder", type=Path, help="folder of a finished speech stage")
    parser.add_argument("--gain", type=float, default=1.0)
    choice = parser.parse_args()
    student, profile = _mean(choice.student)
    whole = load_speech_bank(choice.speech)
    bank = SpeechBank(whole.mel[:CLIPS], whole.mouth[:CLIPS])
    if choice.encoder is not None:
        student.encoder = lay_under(read_regressor(choice.encoder), student.encoder, bank)
    move_further(student, bank, choice.gain)
    export_student(choice.out, student.network, student.encoder, profile)


if __name__ == "__main__":
    main()
