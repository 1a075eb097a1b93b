"""Every shipped workflow: both formats agree, and a real ComfyUI knows every node, input and link in them."""

from __future__ import annotations

import pytest

from talkstream.tests.workflows.graphs import (
    CONTROL,
    FRONT_END_ONLY,
    NAMES,
    WORKFLOWS,
    executable_nodes,
    read_api,
    read_ui,
    ui_as_api,
)

MOST_QUICKSTART_NODES = 10
LARGEST_PICTURE_BYTES = 300_000


def test_the_promised_workflows_are_there():
    assert {"talkstream_quickstart", "talkstream_livetalk", "talkstream_lipsync"} <= set(NAMES)


def test_the_quickstart_is_small():
    assert len(read_ui("talkstream_quickstart")["nodes"]) <= MOST_QUICKSTART_NODES


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_of_the_graph_lies_beside_it(name):
    picture = WORKFLOWS / f"{name}.png"
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size < LARGEST_PICTURE_BYTES


@pytest.mark.host
@pytest.mark.parametrize("name", NAMES)
def test_ui_and_api_files_are_the_same_graph(name, object_info):
    ui = ui_as_api(read_ui(name), object_info)
    api = read_api(name)
    assert ui.keys() == api.keys()
    for key, node in api.items():
        shown = {k: v for k, v in ui[key]["inputs"].items() if k not in (CONTROL, "upload")}
        assert (ui[key]["class_type"], shown) == (node["class_type"], node["inputs"]), key


@pytest.mark.host
@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_fixed(name, object_info):
    """A widget named seed starts at "randomize": a shipped workflow must not."""
    graph = ui_as_api(read_ui(name), object_info)
    controls = [node["inputs"][CONTROL] for node in graph.values() if CONTROL in node["inputs"]]
    assert controls == ["fixed"]


@pytest.mark.host
@pytest.mark.parametrize("name", NAMES)
def test_only_core_and_own_nodes(name, object_info):
    for node in executable_nodes(read_ui(name)):
        module = object_info[node["type"]]["python_module"]
        assert module == "nodes" or module.startswith(("comfy_extras", "custom_nodes.ComfyUI-TalkStream")), (
            module
        )


@pytest.mark.host
@pytest.mark.parametrize("name", NAMES)
def test_every_input_and_link_fits_the_real_definitions(name, object_info):
    graph = read_api(name)
    for key, node in graph.items():
        definition = object_info[node["class_type"]]
        known = {**definition["input"].get("required", {}), **definition["input"].get("optional", {})}
        assert set(definition["input"].get("required", {})) <= set(node["inputs"]), key
        for slot, value in node["inputs"].items():
            assert slot in known, f"{key} {node['class_type']} has no input {slot}"
            if isinstance(value, list):
                source = object_info[graph[value[0]]["class_type"]]
                assert source["output"][value[1]] == known[slot][0], f"{key}.{slot}"


def test_front_end_nodes_are_notes():
    for name in NAMES:
        types = {node["type"] for node in read_ui(name)["nodes"]} - {
            n["class_type"] for n in read_api(name).values()
        }
        assert types <= FRONT_END_ONLY
