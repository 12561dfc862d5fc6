"""What a CUDA device asks of torch and NVML before anything is timed, in which order."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fake_nvml import FakeNvmlLibrary
from lords_bench.timing import cuda
from lords_bench.timing.nvml import Nvml, open_nvml


def test_this_process_is_not_foreign_where_the_driver_knows_it_by_another_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = FakeNvmlLibrary()
    properties = SimpleNamespace(name="GPU", L2_cache_size=1, uuid="abc", multi_processor_count=1)

    def make_context(*_arguments: Any, **_options: Any) -> None:
        # The number of another name space, as a container sees it.
        library.pids = (4_000_000,)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _index: None)
    monkeypatch.setattr(torch, "zeros", make_context)
    monkeypatch.setattr(cuda, "open_nvml", lambda uuid: open_nvml(uuid, library=library))

    device = cuda.CudaDevice()

    assert isinstance(device.nvml, Nvml)
    assert device.nvml.border().foreign == ()
    library.pids = (4_000_000, 5_000_000)
    assert device.nvml.border().foreign == ("process 5000000",)
