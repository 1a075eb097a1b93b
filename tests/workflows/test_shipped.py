"""Every workflow that was ever shipped still loads: nodes, links, and each stored widget value.

shipped/ keeps a copy of each version. Whoever changes a workflow adds the new one as <name>_<next number>.json.
"""

from __future__ import annotations

import json

import pytest

from talkstream.devtools.schemas import inputs_of
from talkstream.tests.workflows.graphs import CONTROL, NAMES, WORKFLOWS, read_ui, ui_as_api

SHIPPED = sorted((WORKFLOWS.parent / "tests" / "workflows" / "shipped").glob("*.json"))
FILE_CHOICES = {"vae_name", "clip_name", "audio_encoder_name", "image", "audio", "student", "base"}


def read(path) -> dict:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_now_is_kept(name):
    assert read_ui(name) in [read(path) for path in SHIPPED], (
        f"copy workflows/{name}.json to tests/workflows/shipped"
    )


@pytest.mark.host
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_it_still_loads(path, object_info):
    graph = ui_as_api(read(path), object_info)
    for key, node in graph.items():
        inputs = inputs_of(object_info[node["class_type"]])
        needed = {name for name, (group, _) in inputs.items() if group == "required"}
        assert needed <= node["inputs"].keys(), (key, node)
        for name, value in node["inputs"].items():
            if name in (CONTROL, "upload"):
                continue
            assert fits(value, inputs[name][1], name, graph, object_info), (
                key,
                node["class_type"],
                name,
                value,
            )


def fits(value, spec, name, graph, object_info) -> bool:
    """Whether an input accepts a stored value, or the output that a stored link comes from."""
    kind, options = spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(value, list):
        source = object_info[graph[value[0]]["class_type"]]
        return source["output"][value[1]] in (kind, "*")
    if isinstance(kind, list) or kind == "COMBO":
        choices = kind if isinstance(kind, list) else options["options"]
        return name in FILE_CHOICES or value in choices
    if kind in ("INT", "FLOAT"):
        return options.get("min", value) <= value <= options.get("max", value)
    return isinstance(value, str if kind == "STRING" else bool)
