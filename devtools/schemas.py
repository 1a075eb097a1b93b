"""What the nodes promise, read from a running host: their English texts, and the schemas that never break.

`python dev.py run -m talkstream.devtools.schemas` writes both files anew after a node or an input was added:
locales/en/nodeDefs.json and tests/nodes/frozen_schemas.json. It refuses a change that would break a saved workflow.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from .environment import Setup
from .host import ROOT, read_host
from .server import PACK_NAME, serve
from .terminal import DevError, say

ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"
FROZEN = ROOT / "tests" / "nodes" / "frozen_schemas.json"

Definitions = dict[str, dict[str, Any]]


def own_nodes(object_info: Definitions) -> Definitions:
    """This pack's definitions out of the host's /object_info."""
    return {
        name: definition
        for name, definition in object_info.items()
        if definition["python_module"].endswith(PACK_NAME)
    }


def inputs_of(definition: dict[str, Any]) -> dict[str, tuple[str, list[Any]]]:
    """Input name -> ("required" or "optional", the host's [type, options]), in the order of saved widget values."""
    return {
        name: (group, definition["input"][group][name])
        for group in ("required", "optional")
        for name in definition["input_order"].get(group, [])
    }


def texts_of(definition: dict[str, Any]) -> dict[str, Any]:
    """One node's entry in nodeDefs.json. Outputs that are called like their type carry no name."""
    outputs = zip(definition["output"], definition["output_name"], definition["output_tooltips"], strict=True)
    return {
        "display_name": definition["display_name"],
        "description": definition["description"],
        "inputs": {
            name: {"name": spec[1].get("display_name") or name, "tooltip": spec[1].get("tooltip") or ""}
            for name, (_, spec) in inputs_of(definition).items()
        },
        "outputs": {
            str(index): ({} if name == kind else {"name": name}) | {"tooltip": tooltip or ""}
            for index, (kind, name, tooltip) in enumerate(outputs)
        },
    }


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    """What a saved workflow relies on: inputs in order with type, group and choices, and outputs in order."""
    return {
        "inputs": [
            {"name": name, "type": spec[0], "group": group}
            | ({"options": spec[1]["options"]} if spec[0] == "COMBO" else {})
            for name, (group, spec) in inputs_of(definition).items()
        ],
        "outputs": [list(pair) for pair in zip(definition["output"], definition["output_name"], strict=True)],
    }


def breaks(frozen: dict[str, Any], now: dict[str, Any] | None) -> list[str]:
    """Sentences about what a workflow saved with `frozen` would miss in `now`; appending is free."""
    if now is None:
        return ["the node is gone"]
    found = []
    for index, old in enumerate(frozen["inputs"]):
        new = now["inputs"][index] if index < len(now["inputs"]) else {}
        if (old["name"], old["type"]) != (new.get("name"), new.get("type")):
            found.append(f"input {index} was {old['name']} ({old['type']}), is {new.get('name')}")
        elif old["group"] == "optional" and new["group"] == "required":
            found.append(f"input {old['name']} was optional")
        elif lost := set(old.get("options", [])) - set(new.get("options", [])):
            found.append(f"input {old['name']} lost the choices {sorted(lost)}")
    appended = now["inputs"][len(frozen["inputs"]) :]
    found += [f"the new input {new['name']} is required" for new in appended if new["group"] == "required"]
    if now["outputs"][: len(frozen["outputs"])] != frozen["outputs"]:
        found.append(f"outputs were {frozen['outputs']}, are {now['outputs']}")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of the repository."""
    return json.loads(path.read_text("utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """The same, as the repository keeps it."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def record(object_info: Definitions) -> None:
    """Write both files. Raises DevError where a saved workflow would break."""
    nodes = own_nodes(object_info)
    schemas = {name: schema_of(definition) for name, definition in nodes.items()}
    frozen = read_json(FROZEN) if FROZEN.is_file() else {}
    broken = [f"{name}: {why}" for name, old in frozen.items() for why in breaks(old, schemas.get(name))]
    if broken:
        raise DevError("saved workflows would break: " + "; ".join(broken))
    write_json(FROZEN, schemas)
    write_json(ENGLISH, {name: texts_of(definition) for name, definition in nodes.items()})
    say(f"{len(nodes)} nodes in {FROZEN} and {ENGLISH}; the other languages are written by hand")


def main() -> int:
    """Start the host that COMFYUI_PATH names, read its nodes, write the files."""
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        raise DevError("no ComfyUI: run `python dev.py run -m talkstream.devtools.schemas`")
    setup = Setup(Path(sys.executable), read_host(Path(path), installed=False))
    with tempfile.TemporaryDirectory(prefix="talkstream-") as base, serve(setup, Path(base)) as server:
        record(server.json("/object_info"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
