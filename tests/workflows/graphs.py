"""Workflow files in both formats, read into one form: node id -> class, and what each input is given."""

from __future__ import annotations

import json
from pathlib import Path

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FRONT_END_ONLY = {"MarkdownNote", "Note"}
CONTROL = "control_after_generate"  # a widget of the front end behind every seed


def read_api(name: str) -> dict[str, dict]:
    return json.loads((WORKFLOWS / "api" / f"{name}.json").read_text("utf-8"))


def read_ui(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text("utf-8"))


def executable_nodes(ui: dict) -> list[dict]:
    return [node for node in ui["nodes"] if node["type"] not in FRONT_END_ONLY]


def widget_names(definition: dict) -> list[str]:
    """Names of a node's widgets in the order in which the front end stores their values."""
    names = []
    for group in ("required", "optional"):
        for name in definition["input_order"].get(group, []):
            kind, *options = definition["input"][group][name]
            options = options[0] if options else {}
            if isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "STRING", "BOOLEAN"):
                if options.get("forceInput"):
                    continue
                names.append(name)
                if options.get(CONTROL):
                    names.append(CONTROL)
                if any(options.get(f"{media}_upload") for media in ("image", "audio", "video")):
                    names.append("upload")
    return names


def ui_as_api(ui: dict, definitions: dict) -> dict[str, dict]:
    """What the front end would queue: class and inputs per node."""
    sources = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    graph = {}
    for node in executable_nodes(ui):
        names = widget_names(definitions[node["type"]])
        inputs = dict(zip(names, node.get("widgets_values", []), strict=False))
        inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
        graph[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return graph
