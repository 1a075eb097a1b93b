"""Saved workflows keep loading: ids, inputs and outputs only ever grow at their end."""

from __future__ import annotations

import copy

import pytest

from talkstream.devtools.schemas import FROZEN, breaks, own_nodes, read_json, schema_of

OLD = {
    "inputs": [
        {"name": "mode", "type": "COMBO", "group": "required", "options": ["a", "b"]},
        {"name": "size", "type": "INT", "group": "optional"},
    ],
    "outputs": [["IMAGE", "IMAGE"]],
}


def changed(change) -> dict:
    schema = copy.deepcopy(OLD)
    change(schema)
    return schema


@pytest.mark.host
def test_no_saved_workflow_breaks(object_info):
    nodes = {name: schema_of(definition) for name, definition in own_nodes(object_info).items()}
    broken = {name: breaks(old, nodes.get(name)) for name, old in read_json(FROZEN).items()}
    assert {name: why for name, why in broken.items() if why} == {}


@pytest.mark.host
def test_every_node_is_frozen(object_info):
    """A new node is written down once: python dev.py run -m talkstream.devtools.schemas"""
    assert own_nodes(object_info).keys() == read_json(FROZEN).keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda schema: None,
        lambda schema: schema["inputs"].append({"name": "new", "type": "INT", "group": "optional"}),
        lambda schema: schema["inputs"][0]["options"].append("c"),
        lambda schema: schema["outputs"].append(["MASK", "MASK"]),
    ],
    ids=["same", "input appended", "choice added", "output appended"],
)
def test_growing_is_free(change):
    assert breaks(OLD, changed(change)) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda schema: schema["inputs"].pop(1), "input 1 was size (INT), is None"),
        (lambda schema: schema["inputs"].reverse(), "input 0 was mode (COMBO), is size"),
        (lambda schema: schema["inputs"][1].update(name="length"), "input 1 was size (INT), is length"),
        (lambda schema: schema["inputs"][1].update(type="FLOAT"), "input 1 was size (INT), is size"),
        (lambda schema: schema["inputs"][1].update(group="required"), "input size was optional"),
        (lambda schema: schema["inputs"][0]["options"].remove("a"), "input mode lost the choices ['a']"),
        (
            lambda schema: schema["inputs"].append({"name": "new", "type": "INT", "group": "required"}),
            "the new input new is required",
        ),
        (lambda schema: schema["outputs"].clear(), "outputs were [['IMAGE', 'IMAGE']], are []"),
    ],
)
def test_everything_else_is_found(change, why):
    assert why in breaks(OLD, changed(change))


def test_a_removed_node_is_found():
    assert breaks(OLD, None) == ["the node is gone"]
