"""Speakers on one time line: at the same time, and in turn."""

import pytest
import torch

from talkstream.audio.voices import arrange_voices, mixed

ONE, TWO = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[4.0, 6.0], [6.0, 8.0]])


def test_at_the_same_time():
    """The shorter voice ends in silence."""
    first, second = arrange_voices([ONE, TWO], "para")
    assert first.tolist() == [[1, 2, 3]] and second.tolist() == [[4, 6, 0], [6, 8, 0]]
    assert mixed([first, second]).tolist() == [[5, 8, 3], [7, 10, 3]]


def test_in_turn():
    """Each starts where the one before ends, silent elsewhere."""
    first, second = arrange_voices([ONE, TWO], "add")
    assert first.tolist() == [[1, 2, 3, 0, 0]]
    assert second.tolist() == [[0, 0, 0, 4, 6], [0, 0, 0, 6, 8]]
    with pytest.raises(ValueError, match="got mixing 'both'"):
        arrange_voices([ONE], "both")
