"""What a stream is made of, told by values: the host's models with their patches, read for a fingerprint."""

from __future__ import annotations

import os
import types
from collections.abc import Iterator
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.weight_adapter import WeightAdapterBase

from ...streaming.fingerprint import Fingerprint, UnknownValueError, Weight
from ...streaming.saved_run import VERSION

TOLD = ("__module__", "__qualname__", "__defaults__", "__kwdefaults__")


def fingerprint(parts: dict[str, object]) -> str:
    """The name of a stream. Raises UnknownValueError for patches on a MODEL that cannot be looked into."""
    mark = Fingerprint(explain=explain)
    mark.add("version", VERSION)
    mark.add("torch", torch.__version__)
    mark.add("attention", optimized_attention.__name__)
    mark.add("stream", parts)
    return mark.hexdigest()


def explain(value: object) -> object:
    """The host's objects as values."""
    if isinstance(value, ModelPatcher):
        return patcher_parts(value)
    if isinstance(getattr(value, "patcher", None), ModelPatcher):  # CLIP, AUDIO_ENCODER and the like
        return type(value).__qualname__, value.patcher
    if isinstance(value, WeightAdapterBase):
        return type(value).__qualname__, value.weights
    if isinstance(value, Weight):
        return explain_tensor(value.tensor)
    if isinstance(value, torch.Tensor):
        return explain_tensor(value)
    if isinstance(value, types.FunctionType):
        return [getattr(value, name) for name in TOLD], closure_of(value)
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, torch.nn.Module):
        return module_parts(value)
    if isinstance(value, type | types.BuiltinFunctionType):
        return value.__module__, value.__qualname__
    raise UnknownValueError(f"a patch of the type {type(value).__qualname__}")


def patcher_parts(patcher: ModelPatcher) -> Iterator[object]:
    """A model: its file, its weights as they were loaded, every patch with its strength, and its options."""
    yield type(patcher.model).__qualname__
    yield str(patcher.load_device), device_name(patcher.load_device)
    yield [file_identity(part) for part in (patcher.cached_patcher_init or ((), ()))[1]]
    if hasattr(patcher.model, "get_dtype_inference"):
        yield patcher.model.get_dtype_inference()
    for key, (weight, *patches) in patcher.get_key_patches().items():
        yield key
        yield Weight(weight[0])
        yield patches
    yield patcher.object_patches, patcher.model_options, patcher.wrappers
    yield [patcher.injections, patcher.hook_patches, patcher.weight_wrapper_patches]
    yield patcher.additional_models


def device_name(device: torch.device) -> str:
    """Kind of processor: another one rounds in another way."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def file_identity(part: object) -> object:
    """An argument of the loader: for a file its size and time of change instead of its path."""
    if isinstance(part, str) and os.path.isfile(part):
        found = os.stat(part)
        return found.st_size, found.st_mtime_ns
    return repr(part)


def explain_tensor(tensor: torch.Tensor) -> object:
    """Quantised tensors: the numbers they hold, and how they are to be read."""
    if hasattr(tensor, "_qdata"):
        return tensor._layout_cls, Weight(tensor._qdata), tensor._params
    plain = tensor.as_subclass(torch.Tensor)
    return type(tensor).__qualname__, str(getattr(tensor, "tensor_type", "")), Weight(plain)


def module_parts(module: torch.nn.Module) -> Iterator[object]:
    """A small module: its tensors and its numbers."""
    yield type(module).__qualname__
    yield {name: Weight(tensor) for name, tensor in module.state_dict().items()}
    yield {name: value for name, value in vars(module).items() if isinstance(value, bool | int | float | str)}


def closure_of(function: types.FunctionType) -> list[Any]:
    """The values that a function has caught."""
    return [cell.cell_contents for cell in function.__closure__ or ()]
