"""A launch of a kernel whose source was edited, as a call that a compile worker makes."""

from importlib import import_module
from typing import Any
from unittest.mock import patch

from lords_bench.kernels.scale_tile import launch as at
from lords_bench.static.launches import launch_problem


def launch(target: Any, launched: Any, module: str) -> None:
    """`launch_problem` with the kernel of another module in place of the scale-tile kernel."""
    with patch.object(at, "scale_tile_kernel", import_module(module).scale_tile_kernel):
        launch_problem(target, launched)
