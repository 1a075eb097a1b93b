"""Pieces of the pull that need no stream: who is upstream, what an error is called, where files go."""

from __future__ import annotations

import pytest
import torch

pytestmark = pytest.mark.host


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def test_upstream_nodes_are_found_through_what_lies_between(host):
    """By walking the links, whatever the ids are: renumbered, or of a subgraph."""
    from talkstream.nodes.host.progress import upstream_node

    prompt = {
        "5:1": node("TalkStreamStreamChunks", seed=3),
        "5:2": node("TalkStreamDecodeStream", stream=["5:1", 0], vae=["4", 0]),
        "4": node("VAELoader", vae_name="x"),
        "9": node("SomebodysFilter", frames=["5:2", 0], sizes=[1, 2]),
        "12": node("TalkStreamSaveStream", frames=["9", 0]),
    }
    assert upstream_node(prompt, "12", "TalkStreamStreamChunks") == "5:1"
    assert upstream_node(prompt, "12", "TalkStreamDecodeStream") == "5:2"
    assert upstream_node(prompt, "12", "TalkStreamLoadStudent") is None
    assert upstream_node(None, "12", "TalkStreamStreamChunks") is None


def test_an_error_starts_with_stage_node_and_chunk(host):
    from talkstream.nodes.stages import STREAM, WRITE, StageError, stage

    with (
        pytest.raises(StageError, match=r"^Stream Chunks #12, chunk 37: it broke$"),
        stage(STREAM, "12", chunk=37),
    ):
        raise ValueError("it broke")
    with (
        pytest.raises(StageError, match=r"^Stream Chunks #12, chunk 37: it broke$"),
        stage(WRITE, "8", chunk=37),
        stage(STREAM, "12", chunk=37),
    ):
        raise ValueError("it broke")


def test_running_out_of_memory_keeps_its_type(host):
    """The host unloads models when it sees that type."""
    from talkstream.nodes.stages import DECODE, stage

    with (
        pytest.raises(torch.OutOfMemoryError, match=r"^Decode Stream #7, chunk 2: 3 GB"),
        stage(DECODE, "7", chunk=2),
    ):
        raise torch.OutOfMemoryError("3 GB")


def test_stop_is_not_an_error(host):
    from comfy.model_management import InterruptProcessingException

    from talkstream.nodes.stages import STREAM, stage

    with pytest.raises(InterruptProcessingException), stage(STREAM, "12", chunk=0):
        raise InterruptProcessingException


def test_two_files_never_share_a_number(host):
    from talkstream.nodes.host.paths import reserve_output

    first, second = (reserve_output("numbers/%width%", width=32, height=48) for _ in range(2))
    assert (first.path.name, second.path.name) == ("32_00001_.mp4", "32_00002_.mp4")
    assert first.subfolder == "numbers"


def test_bf16_is_chosen_only_where_the_cpu_is_fast_at_it(host, monkeypatch):
    from talkstream.nodes.host import memory

    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(memory, "cpu_has_fast_bf16", lambda fast=fast: fast)
        assert memory.student_dtype("auto", stored=torch.float16) == expected
    assert memory.student_dtype("auto", stored=torch.float8_e4m3fn) is None
    assert memory.student_dtype("fp16", stored=torch.float32) == torch.float16


def test_widgets_offer_what_the_engine_knows(host):
    """Schemas are read at every start and import no engine; their lists are written out, and compared here."""
    from talkstream.networks.cache_spec import SINK_RULES
    from talkstream.networks.multitalk_profiles import MULTITALK_PROFILES
    from talkstream.networks.profile import PROFILES
    from talkstream.nodes import load, schedule
    from talkstream.nodes.host.memory import PRECISIONS

    assert load.PROFILES == ["auto", *PROFILES, *MULTITALK_PROFILES]
    assert load.PRECISIONS == ["auto", *PRECISIONS]
    assert schedule.SINK_RULES == list(SINK_RULES)
