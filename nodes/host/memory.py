"""Devices, number formats and loading: what the host decides, and the one thing it does not know about CPUs."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import comfy.model_management
import comfy.utils
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher

logger = logging.getLogger(__name__)

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
ORDINARY_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def cpu_has_fast_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); elsewhere float32 is faster."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check)() for check in checks if hasattr(torch.cpu, check))


def host_flag_set() -> bool:
    """Whether the user started ComfyUI with a number format of their own, such as --fp32-unet."""
    return any(value for name, value in vars(args).items() if name.endswith("_unet") and value)


def student_dtype(precision: str, *, stored: torch.dtype | None) -> torch.dtype | None:
    """Number format to run a student in; None leaves the choice to the host.

    Students are trained in bfloat16, which ComfyUI would run in float16: take bfloat16 where the device is
    fast at it. Quantised files (any stored type but the ordinary three) are the host's business.
    """
    if precision != "auto":
        return PRECISIONS[precision]
    if host_flag_set() or stored not in ORDINARY_DTYPES:
        return None
    device = comfy.model_management.get_torch_device()
    if comfy.model_management.is_device_cpu(device):
        return torch.bfloat16 if cpu_has_fast_bf16() else torch.float32
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else None


def compute_in(patcher: ModelPatcher, dtype: torch.dtype | None) -> None:
    """Makes a freshly loaded network compute in its own weight format on a CPU, where the host would not."""
    if dtype is not None and comfy.model_management.is_device_cpu(patcher.load_device):
        patcher.model.manual_cast_dtype = dtype


def module_patcher(module: torch.nn.Module) -> ModelPatcher:
    """Hands a small module of ours to the host's memory management."""
    return ModelPatcher(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def load_together(patchers: Iterable[ModelPatcher], *, extra_bytes: int) -> None:
    """Brings all models of one run to their devices at once, with room for caches and activations."""
    comfy.model_management.load_models_gpu(list(patchers), memory_required=extra_bytes)


def room(device: torch.device) -> int:
    """Bytes that a run can have there: what is free, and what models hold that the host can move away."""
    free = comfy.model_management.get_free_memory(device)
    if comfy.model_management.is_device_cpu(device):
        return int(free)
    held = (
        model.model_loaded_memory()
        for model in comfy.model_management.current_loaded_models
        if model.device == device and model.model is not None
    )
    return int(free + sum(held))


def held_by_others(device: torch.device, patchers: Iterable[ModelPatcher]) -> int:
    """Bytes there of models that are loaded and not among these: text encoders and CLIP vision, after their work."""
    own = list(patchers)
    return sum(
        loaded.model_loaded_memory()
        for loaded in comfy.model_management.current_loaded_models
        if loaded.device == device
        and loaded.model is not None
        and not any(loaded.model.is_clone(patcher) for patcher in own)
    )


class Residency:
    """Keeps models on their devices through a long run.

    Under dynamic VRAM an eviction lowers how much of a model may stay until it is loaded again; without that a
    run of hours would slow down for good.
    """

    def __init__(self, patchers: Iterable[ModelPatcher]) -> None:
        self._sizes = {patcher: patcher.loaded_size() for patcher in patchers if patcher.is_dynamic()}

    def restore(self) -> None:
        """Loads again what has shrunk since the last call."""
        shrunk = [patcher for patcher, size in self._sizes.items() if patcher.loaded_size() < size]
        if shrunk:
            comfy.model_management.load_models_gpu(shrunk)
        self._sizes = {patcher: patcher.loaded_size() for patcher in self._sizes}


def read_tensors(path: Path, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The host's own reader of safetensors files: tensors stay on disk where the host can map them."""
    tensors = comfy.utils.load_torch_file(str(path), safe_load=True)
    return {name: tensors[name] for name in names}
