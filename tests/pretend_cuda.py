"""Tensors that say they are on a GPU and compute on the CPU: code for a GPU runs, and what mixes devices is an error.

PyTorch itself would refuse such a mixture only on a machine with a GPU. Kernels are not run; everything else that a
GPU takes another way for (`tensor.is_cuda`, `device.type`) is.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("cuda", 0)
# Operators that may take tensors of two devices.
_BETWEEN_DEVICES = ("aten._to_copy.default", "aten.copy_.default")
# Indices may lie on the CPU.
_INDEXING = tuple(f"aten.{name}" for name in ("index.Tensor", "index_put_.default", "index_put.default"))


class MixedDevicesError(RuntimeError):
    """What a real GPU would refuse."""


class PretendCuda(Tensor):
    """A tensor on the pretended GPU; its values lie in `inner`, on the CPU."""

    inner: Tensor

    def __new__(cls, inner: Tensor) -> Self:
        made = Tensor._make_wrapper_subclass(  # noqa: SLF001  (PyTorch's own name for this)
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=GPU, requires_grad=inner.requires_grad,
        )  # fmt: skip
        made.inner = inner
        return made

    def __repr__(self, *_arguments: Any, **_options: Any) -> str:
        return f"PretendCuda({self.inner!r})"

    # What PyTorch does before it dispatches, and only with a GPU's own code: values as Python numbers, and indexing.
    def __bool__(self) -> bool:
        return bool(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __float__(self) -> float:
        return float(self.inner)

    def __index__(self) -> int:
        return int(self.inner)

    def item(self) -> Any:
        return self.inner.item()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def contiguous(self, **options: Any) -> "PretendCuda":  # type: ignore[override]
        return self if self.inner.is_contiguous() else PretendCuda(self.inner.contiguous(**options))

    def copy_(self, source: Tensor, non_blocking: bool = False) -> "PretendCuda":  # noqa: FBT002  (of Tensor)
        self.inner.copy_(_inner(source), non_blocking)
        return self

    def __getitem__(self, index: Any) -> "PretendCuda":
        return PretendCuda(self.inner[tree_map(_inner, index)])

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Tensor) and not isinstance(value, PretendCuda) and value.dim() > 0:
            raise MixedDevicesError(f"a part of cuda:0 was set to {tuple(value.shape)} of cpu")
        self.inner[tree_map(_inner, index)] = _inner(value)

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        return _run(func, args, dict(kwargs or {}))


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, Tensor)]
    pretended = [tensor for tensor in tensors if isinstance(tensor, PretendCuda)]
    real = [tensor for tensor in tensors if not isinstance(tensor, PretendCuda) and tensor.dim() > 0]
    asked = kwargs.get("device")
    if pretended and real and str(func) not in (*_BETWEEN_DEVICES, *_INDEXING):
        raise MixedDevicesError(f"{func} got tensors of cuda:0 and of cpu: {[tuple(t.shape) for t in tensors]}")
    if asked is not None:
        kwargs["device"] = torch.device("cpu")
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if str(func) == "aten.copy_.default":
        return args[0]
    on_gpu = torch.device(asked).type == "cuda" if asked is not None else bool(pretended)
    given = {id(tensor.inner): tensor for tensor in pretended}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        known = given.get(id(value))
        if known is not None:
            return known
        return PretendCuda(value) if on_gpu else value

    return tree_map(wrapped, result)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, PretendCuda) else value


class _Mode(TorchDispatchMode):
    """Catches what makes tensors out of nothing."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        return _run(func, args, dict(kwargs or {}))


@contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """Within it tensors can be made on the device that is given."""
    real_generator = torch.Generator

    class AnyGenerator:
        """Of whatever device, on the CPU."""

        def __new__(cls, *_device: object) -> torch.Generator:  # type: ignore[misc]
            return real_generator()

    real_tensor = torch.tensor

    def any_tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = real_tensor(data, **options)
        return made if device is None else made.to(device)

    monkeypatch.setattr(torch, "tensor", any_tensor)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_arguments: None)
    monkeypatch.setattr(torch, "Generator", AnyGenerator)
    with _Mode():
        yield GPU


def to_cpu(value: Tensor) -> Tensor:
    """The values of a tensor of either kind."""
    return value.inner if isinstance(value, PretendCuda) else value
