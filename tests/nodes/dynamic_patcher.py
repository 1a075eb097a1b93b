"""The host's dynamic patcher on a CPU: everything of it but the memory window of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class NoPins:
    """A buffer of pinned memory that never grows: pinning needs a GPU's driver."""

    def __init__(self, size: int, prewarm: int = 0, max_grow_size: int = 0, mark_cold: bool = True) -> None:
        self.size = 0

    def truncate(self, size: int, do_unregister: bool = True) -> None:
        """Nothing is held."""


@contextmanager
def dynamic_on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """While the block runs the host's loaders make dynamic patchers, as with --enable-dynamic-vram on a GPU.

    The host's class reroutes itself to the ordinary one for a CPU; this subclass of it does not. Freeing what is on the
    GPU is left out with the GPU: the host asserts that there is one.
    """
    import comfy.model_patcher
    import comfy_aimdo.host_buffer

    class OnCPU(comfy.model_patcher.ModelPatcherDynamic):
        def __new__(cls, *_: object, **__: object) -> OnCPU:
            return object.__new__(cls)

        def partially_unload(
            self, device_to: object, memory_to_free: float = 0, force_patch_weights: bool = False
        ) -> int:
            return self.restore_loaded_backups()

    with monkeypatch.context() as patched:
        patched.setattr(comfy_aimdo.host_buffer, "HostBuffer", NoPins)
        patched.setattr(comfy.model_patcher, "CoreModelPatcher", OnCPU)
        yield OnCPU


def apply_staged(model) -> int:
    """Let every layer apply the LoRA that the patcher staged on it, as a GPU's cast does; gives the layers' number."""
    staged = 0
    for module in model.model.modules():
        patch = getattr(module, "weight_lowvram_function", None)
        if patch is not None:
            module.weight_function = [*module.weight_function, patch]
            staged += 1
    return staged
