"""What the host's loader must be told of a file besides its tensors: quantised layers, and sizes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ...model_loaders.recipes import LazyTensors
from ...networks.wan import WanConfig

QUANTISED = "_quantization_metadata"
"""Where newer quantised files list their layers."""


def listed_layers(tensors: LazyTensors, wan: Iterable[str]) -> dict[str, str]:
    """A file's metadata, its list of quantised layers under the names of the Wan network and without the others."""
    metadata = dict(tensors.checkpoint.metadata)
    if QUANTISED not in metadata:
        return metadata
    listed = json.loads(metadata[QUANTISED])
    ours = {tensors.recipes[name].parts[0].rpartition(".")[0]: name.rpartition(".")[0] for name in wan}
    layers = {ours[name]: layer for name, layer in listed["layers"].items() if name in ours}
    return {**metadata, QUANTISED: json.dumps({**listed, "layers": layers})}


def with_sizes(metadata: Mapping[str, str], config: WanConfig) -> dict[str, str]:
    """File metadata plus the sizes that the host would otherwise take for granted."""
    described = json.loads(metadata.get("config", "{}"))
    sizes = {"text_dim": config.text_dim, "freq_dim": config.freq_dim, "num_heads": config.num_heads}
    described["transformer"] = {**described.get("transformer", {}), **sizes}
    return {**metadata, "config": json.dumps(described)}
