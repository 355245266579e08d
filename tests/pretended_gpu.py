"""A pretended GPU: tensors on a device of their own, whose values lie in memory.

What would mix devices on a GPU, or read a GPU's tensor without copying it first, fails there as well. PyTorch's "lazy"
device stands for the GPU, since nothing else uses it; there is no autocast on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from lightning_fabric.accelerators import ACCELERATOR_REGISTRY
from lightning_fabric.accelerators.cpu import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

from slim.network.classifier import Classifier

GPU = torch.device("lazy", 0)
MIXING = {"aten.index.Tensor", "aten.index_put.default", "aten.index_put_.default", "aten.copy_.default"}
"""Operations whose other tensors may lie in memory. The first tensor says where the result is."""


class OnGpu(torch.Tensor):
    """A tensor on the pretended GPU."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        options = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=GPU, **options)
        made.inner = inner
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


def values_of(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor, wherever it is."""
    return tensor.inner if isinstance(tensor, OnGpu) else tensor


def _computed(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute in memory; the result is where a GPU would have it."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    on_gpu = [isinstance(tensor, OnGpu) for tensor in tensors]
    if kwargs.get("device") is not None:
        here = torch.device(kwargs["device"]).type == GPU.type
    elif str(operation) in MIXING:
        here = on_gpu[0]
        if str(operation) != "aten.copy_.default" and not here and any(on_gpu):
            raise RuntimeError(f"Indices on the GPU into a tensor in memory: {operation}.")
    else:
        here = any(on_gpu)
        if any(not there and tensor.ndim for there, tensor in zip(on_gpu, tensors, strict=True)) and here:
            raise RuntimeError(f"Expected all tensors to be on the same device: {operation}.")
    if here and isinstance(kwargs.get("generator"), torch.Generator):
        raise RuntimeError(f"Expected a generator of the GPU: {operation}.")
    kwargs_in_memory = {name: value for name, value in kwargs.items() if name != "device"}
    plain_args, plain = tree_map(values_of, (args, kwargs_in_memory))
    if "device" in kwargs:
        plain["device"] = torch.device("cpu")
    result = operation(*plain_args, **plain)
    if not here:
        return result
    wrapped = tree_map(lambda value: OnGpu(value) if isinstance(value, torch.Tensor) else value, result)
    return return_and_correct_aliasing(operation, args, kwargs, wrapped) if any(on_gpu) else wrapped


class _Operations(TorchDispatchMode):
    """Catches operations that make tensors on the GPU from none."""

    def __torch_dispatch__(self, operation: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(operation, args, kwargs or {})


class _Functions(TorchFunctionMode):
    """Does what PyTorch does without operations that could be caught."""

    def __torch_function__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") == GPU:
            return function(*args, **{**kwargs, "device": None}).to(GPU)
        if function is torch.Tensor.tolist:
            return values_of(args[0]).tolist()
        return function(*args, **kwargs)


class _Accelerator(CPUAccelerator):
    """The pretended GPU for Lightning Fabric."""

    def setup_device(self, device: torch.device) -> None:
        pass

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [GPU] * devices


@contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Within the block there is a pretended GPU, which networks are trained on."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr("slim.training.fitting._device", lambda _: GPU)
    monkeypatch.setitem(ACCELERATOR_REGISTRY, GPU.type, {"accelerator": _Accelerator, "init_params": {}})
    monkeypatch.setattr("slim.processes.strategy", lambda **_: {"devices": 1, "strategy": SingleDeviceStrategy(GPU)})
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Functions(), _Operations():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(before)


def moved(classifier: Classifier) -> Classifier:
    """A classifier on the pretended GPU."""
    classifier.module.to(GPU)
    assert classifier.device == GPU
    return classifier
