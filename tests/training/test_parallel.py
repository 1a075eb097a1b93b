"""Two processes on a CPU do what one does with both parts of the batch."""

from __future__ import annotations

import pytest
import torch

from talkstream.tests.training.launching import launch
from talkstream.tests.training.two_processes import STEPS, finetune_stage
from talkstream.training.metrics import read_rows
from talkstream.training.parallel import agreed, averaged, draw, main_first, rank, update, world

pytestmark = pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What both processes found, and their folder."""
    folder = tmp_path_factory.mktemp("two_processes")
    launch("tests.training.two_processes", str(folder), folder=folder)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)], folder


def test_both_end_with_the_same_weights(together):
    (first, second), _ = together
    for name, tensor in first["student"].items():
        assert torch.equal(tensor, second["student"][name]), name
    assert first["losses"] != second["losses"]  # each had clips of its own


def test_they_are_one_process_on_the_joined_batch(together):
    """One process takes the mean of both parts' losses; its weights move as theirs did."""
    stage = finetune_stage()
    start = {name: tensor.clone() for name, tensor in stage.student.state_dict().items()}
    losses = []
    for step in range(STEPS):
        parts = [stage.loss(draw(stage.settings.seed, step, part=part)) for part in (0, 1)]
        losses.append([loss.item() for loss in parts])
        update(stage.optimisers, (parts[0] + parts[1]) / 2, stage.student, max_norm=1.0)
    for both, step in zip(losses, range(STEPS), strict=True):
        for loss, process in zip(both, together[0], strict=True):
            assert process["losses"][step] == pytest.approx(loss, rel=1e-4)
    moved = 0.0
    for name, tensor in stage.student.state_dict().items():
        torch.testing.assert_close(together[0][0]["student"][name], tensor, atol=1e-4, rtol=1e-3)
        moved = max(moved, (tensor - start[name]).abs().max().item())
    assert moved > 0.01


def test_a_resumed_run_of_two_is_the_uninterrupted_one(together):
    (first, second), folder = together
    for process in (first, second):
        for name, tensor in process["whole"].items():
            assert torch.equal(tensor, process["resumed"][name]), name
    rows = read_rows(folder / "whole" / "metrics.csv")
    assert [row["step"] for row in rows] == [STEPS, STEPS]  # the main process alone reports


def test_a_gradient_that_one_process_lacks_counts_as_zeros(together):
    for process in together[0]:
        first, second, third = process["uneven"]
        assert first.tolist() == [1.5, 3.0] and second.tolist() == [2.0, 4.0] and third is None


def test_numbers_are_averaged_and_the_main_process_goes_first(together):
    first, second = together[0]
    assert first["averaged"] == second["averaged"] == {"rank": 0.5}
    assert not first["found"] and second["found"]


def test_alone_nothing_is_shared():
    assert (rank(), world(), agreed(2.5), averaged({"a": 1.0})) == (0, 1, 2.5, {"a": 1.0})
    with main_first():
        pass


def test_draws_differ_between_steps_and_parts_and_agree_where_they_must():
    first, same, other, later = draw(1, 2), draw(1, 2, part=0), draw(1, 2, part=1), draw(1, 3)
    shared = [drawn.shared.random() for drawn in (first, same, other, later)]
    own = [drawn.own.random() for drawn in (first, same, other, later)]
    noise = [torch.randn((), generator=drawn.noise).item() for drawn in (first, same, other, later)]
    assert shared[0] == shared[1] == shared[2] != shared[3]
    for numbers in (own, noise):
        assert numbers[0] == numbers[1] and len(set(numbers)) == 3
    assert own[0] != shared[0]


def test_without_a_cut_gradients_pass_whose_norm_overflows():
    """Muon takes their direction alone. Cutting them to an infinite norm once made every weight nan."""
    layer = torch.nn.Linear(2, 2, bias=False)
    optimiser = torch.optim.SGD(layer.parameters(), lr=1e-30)
    before = layer.weight.detach().clone()
    assert update([optimiser], 1e30 * layer.weight.sum(), layer) is None
    torch.testing.assert_close(layer.weight.detach(), before - 1.0)
    norm = update([optimiser], 3.0 * layer.weight.sum(), layer, max_norm=1.0)
    assert norm.item() == pytest.approx(6.0)
