"""A launch by a handle is what Triton's own launcher would have done with the same arguments, whatever came before.

Triton's launcher runs as on a GPU up to its compiler and driver. In their place stand ones that remember: a compiled
kernel what it was specialised for, and each of its runs what it was given.
"""

# ruff: noqa: ANN001, ANN201, SLF001

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from importlib.util import find_spec, module_from_spec
from itertools import count as numbers
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lords_bench.kernel_check import make_case, prepared_for
from lords_bench.kernel_check.emulated import counted_faults, emulated_target
from lords_bench.kernels.common.entry import kernel_module
from lords_bench.kernels.common.gpu import Gpu, pretended_gpu
from lords_bench.kernels.common.prepared import operands_of
from lords_bench.products.registry import KERNELS
from lords_bench.static.pretended import _Driver
from lords_bench.static.target import named_target

triton = pytest.importorskip("triton")
from triton import knobs  # noqa: E402
from triton import language as tl  # noqa: E402
from triton.compiler.compiler import LazyDict  # noqa: E402
from triton.runtime import driver  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from lords_bench.kernels.common import handle  # noqa: E402
from lords_bench.kernels.common.handle import MOST_HANDLES, launch_ready  # noqa: E402
from lords_bench.kernels.common.ready import Ready  # noqa: E402

CPU = torch.device("cpu")
GPU = Gpu(arch="sm_90", sm_count=132)
N, K = 256, 512
PRODUCTS = ("rank_expanded", "scale_tile", "scale_tile_gemm", "blockwise", "blockwise_gemm")

STEP = tl.constexpr(3)

# Triton keeps code by device, so no test finds that of another.
TESTS = numbers()


@triton.jit
def scaled(x_ptr, y_ptr, count, x_stride, BLOCK: tl.constexpr, POWER: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(
        y_ptr + places, tl.load(x_ptr + places * x_stride, mask=places < count) * STEP * POWER, mask=places < count
    )


@triton.jit
def copied(x_ptr, y_ptr, count, x_stride, POWER: tl.constexpr, BLOCK: tl.constexpr):
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + places * x_stride, mask=places < count)
    tl.store(y_ptr + places, x * POWER, mask=places < count)


class Stub(_Driver):
    """The driver of an Nvidia GPU that launches nothing; what it is asked for may be changed."""

    stream = 7

    def __init__(self, target: str) -> None:
        super().__init__(named_target(target), "nothing")
        self.device = f"device of test {next(TESTS)}"

    def get_current_device(self) -> str:
        return self.device

    def get_current_stream(self, device: str) -> Any:
        return device, self.stream


@dataclass(eq=False)
class Machine:
    """Attributes:
    driver: the stub.
    runs: what ran, in order: the code's specialisation, grid, stream, hooks and arguments.
    by_handle: how many of them came from a handle.
    compiled: how many kernels were compiled.
    """

    driver: Any
    runs: list[tuple[Any, ...]] = field(default_factory=list)
    by_handle: int = 0
    compiled: int = 0


class Compiled:
    """In place of a compiled kernel; it knows what it was compiled for."""

    function, packed_metadata = "function", "metadata"

    def __init__(self, specialisation: tuple[Any, ...], runs: list[tuple[Any, ...]]) -> None:
        self.specialisation, self.runs = specialisation, runs

    def launch_metadata(self, grid: Any, stream: Any, *arguments: Any) -> Any:
        return None if knobs.runtime.launch_enter_hook is None else (grid, stream, len(arguments))

    def run(self, *given: Any) -> None:
        self.runs.append((self.specialisation, *map(shown, given)))


def shown(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.stride(), value.data_ptr() % 16
    if isinstance(value, LazyDict):
        return value.get()
    return [shown(found) for found in value] if isinstance(value, list | tuple) else value


@contextmanager
def stub_machine(monkeypatch: pytest.MonkeyPatch, target: str = "sm_90") -> Iterator[Machine]:
    machine = Machine(driver=Stub(target))

    def compile_nothing(
        kernel: Any, key: Any, signature: Any, device: Any, constexprs: Any, options: Any, attributes: Any, _warmup: Any
    ) -> Compiled:
        machine.compiled += 1
        told = (kernel.__name__, str(signature), str(constexprs), str(options), str(attributes))
        found = kernel.device_caches[device][0][key] = Compiled(told, machine.runs)
        return found

    by_handle = handle._launch

    def counted(*arguments: Any) -> None:
        machine.by_handle += 1
        by_handle(*arguments)

    active = driver._active
    with monkeypatch.context() as patched, pretended_gpu(GPU):
        patched.setattr(JITFunction, "_do_compile", compile_nothing)
        patched.setattr(handle, "_launch", counted)
        driver.set_active(machine.driver)
        try:
            yield machine
        finally:
            driver._active = active


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with stub_machine(monkeypatch) as found:
        yield found


def ready_of() -> Ready:
    """A call that was launched once: the next launch makes a handle."""
    return Ready(
        handles={(): None}, grid=(2, 3), constants={"BLOCK": 128, "POWER": 2, "num_warps": 4}, config=None, gpu=GPU
    )


def in_tritons_way(launch: Callable[[], object], machine: Machine) -> tuple[Any, ...]:
    """What the launch does where nothing is known of Triton."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(handle, "_IS_READ", False)
        launch()
    return machine.runs.pop()


BASE = torch.zeros(256)
USUAL: dict[str, Any] = {"x": BASE[:64], "y": torch.zeros(64), "count": 64, "stride": 32}


def launch_of(ready: Ready, *, x: Tensor, y: Tensor, count: int, stride: int, kernel: Any = scaled) -> None:
    launch_ready(kernel, ready, (x, y), (count, stride))


CHANGES: dict[str, dict[str, Any]] = {
    "an address that is no multiple of 16": {"x": BASE[1:65]},
    "the other address that is no multiple of 16": {"y": BASE[2:66]},
    "another dtype": {"x": BASE[:64].half()},
    "a dtype of as many bytes": {"y": torch.zeros(64, dtype=torch.int32)},
    "an integer that is 1": {"stride": 1},
    "an integer that no longer divides by 16": {"stride": 33},
    "a count that no longer divides by 16": {"count": 63},
    "a count of 1": {"count": 1},
    "an integer of 64 bits": {"stride": 1 << 32},
    "another kernel": {"kernel": copied},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("changed_first", [False, True])
def test_a_launch_runs_what_triton_would_run_whatever_was_launched_before(
    change: str, changed_first: bool, machine: Machine
) -> None:
    usual, other = USUAL, USUAL | CHANGES[change]
    turns = [other, usual] if changed_first else [usual, other]
    expected = [in_tritons_way(lambda: launch_of(ready_of(), **turn), machine) for turn in turns]  # noqa: B023

    ready = ready_of()
    for turn in (*turns, *turns, *turns):
        launch_of(ready, **turn)

    assert machine.runs == expected * 3
    assert expected[0] != expected[1]


def test_a_launch_that_was_made_before_binds_nothing(machine: Machine) -> None:
    ready = ready_of()
    launch_of(ready, **USUAL)
    binders = scaled.device_caches[machine.driver.device]
    scaled.device_caches[machine.driver.device] = (*binders[:4], None)
    launch_of(ready, **USUAL)

    assert machine.runs[0] == machine.runs[1]
    assert machine.by_handle == 1


def test_a_first_launch_makes_no_handle(machine: Machine) -> None:
    ready = replace(ready_of(), handles={})
    made = []
    for _ in range(3):
        launch_of(ready, **USUAL)
        made.append(sum(found is not None for found in ready.handles.values()))

    assert made == [0, 1, 1]
    assert machine.by_handle == 1
    assert machine.runs[0] == machine.runs[1] == machine.runs[2]


def test_the_current_device_and_stream_are_those_of_the_call(machine: Machine) -> None:
    ready = ready_of()
    first, second = machine.driver.device, f"{machine.driver.device}, the second"
    currents = [(first, 7), (second, 7), (first, 8), (second, 9), (first, 7)]
    for device, stream in currents:
        machine.driver.device, machine.driver.stream = device, stream
        launch_of(ready, **USUAL)

    assert [tuple(run[4]) for run in machine.runs] == currents
    # Code is loaded into one device: each compiles its own.
    assert machine.compiled == 2
    assert machine.by_handle == 3


@pytest.mark.parametrize(
    ("group", "knob", "value"),
    [
        ("runtime", "debug", True),
        ("compilation", "instrumentation_mode", "gsan"),
        ("compilation", "fpsan_homomorphic_casts", True),
    ],
)
def test_a_knob_that_changes_the_code_is_obeyed_at_the_next_launch(
    group: str, knob: str, value: Any, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(getattr(knobs, group), knob):
        pytest.skip(f"this Triton has no {knob}")
    ready = ready_of()
    launch_of(ready, **USUAL)
    launch_of(ready, **USUAL)
    with monkeypatch.context() as patched:
        patched.setattr(getattr(knobs, group), knob, value)
        launch_of(ready, **USUAL)
        expected = in_tritons_way(lambda: launch_of(ready_of(), **USUAL), machine)
        assert machine.runs[-1] == expected
    launch_of(ready, **USUAL)

    assert machine.runs[0] == machine.runs[1] == machine.runs[-1] != expected


def test_hooks_around_a_launch_are_called_with_what_triton_gives_them(machine: Machine) -> None:
    ready = ready_of()
    launch_of(ready, **USUAL)
    with knobs.runtime.scope():
        knobs.runtime.launch_enter_hook = knobs.runtime.launch_exit_hook = "hook"
        launch_of(ready, **USUAL)
        expected = in_tritons_way(lambda: launch_of(ready_of(), **USUAL), machine)

    assert machine.runs[-1] == expected != machine.runs[0]
    assert machine.by_handle == 1


def test_hooks_before_the_run_see_every_launch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    ready = ready_of()
    launch_of(ready, **USUAL)
    launch_of(ready, **USUAL)
    monkeypatch.setattr(scaled, "pre_run_hooks", [lambda *arguments, **_options: seen.append(len(arguments))])
    launch_of(ready, **USUAL)

    assert seen == [4]
    assert len(machine.runs) == 3


@pytest.mark.skipif(handle._IS_3_6, reason="this Triton keeps code under one key whatever the pipeline")
def test_code_of_another_pipeline_is_compiled_and_run(machine: Machine) -> None:
    ready = ready_of()
    launch_of(ready, **USUAL)
    with knobs.runtime.scope():
        for name in ("one", "other", "one", "other"):
            knobs.runtime.add_stages_inspection_hook = lambda *_call, name=name: (name, name)
            launch_of(ready, **USUAL)
    launch_of(ready, **USUAL)

    assert (machine.compiled, machine.by_handle) == (3, 3)


def test_whoever_replaces_tritons_launcher_gets_every_launch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []
    ready = ready_of()
    launch_of(ready, **USUAL)
    monkeypatch.setattr(JITFunction, "run", lambda _kernel, *arguments, **options: seen.append((arguments, options)))
    launch_of(ready, **USUAL)

    assert len(seen) == len(machine.runs) == 1
    assert seen[0][0][2:] == (64, 32)
    assert seen[0][1] == {"grid": (2, 3), "warmup": False, "BLOCK": 128, "POWER": 2, "num_warps": 4}


def test_code_that_triton_has_dropped_is_compiled_again(machine: Machine) -> None:
    ready = ready_of()
    launch_of(ready, **USUAL)
    scaled.device_caches.clear()
    launch_of(ready, **USUAL)

    assert machine.compiled == 2
    assert machine.runs[0] == machine.runs[1]


def test_code_that_is_still_being_compiled_is_waited_for_as_triton_waits(machine: Machine) -> None:
    ready = ready_of()
    launch_of(ready, **USUAL)
    kept = scaled.device_caches[machine.driver.device][0]
    ((key, compiled),) = kept.items()

    class Compiling:
        def result(self) -> Compiled:
            kept[key] = compiled
            return compiled

        def __getattr__(self, name: str) -> Any:
            return getattr(self.result(), name)

    kept[key] = Compiling()
    launch_of(ready, **USUAL)
    assert (machine.compiled, machine.by_handle) == (1, 0)
    kept[key] = compiled
    launch_of(ready, **USUAL)

    assert machine.runs == 3 * [machine.runs[0]]
    assert machine.by_handle == 1


def test_code_compiled_from_another_value_of_a_module_is_refused_as_triton_refuses_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scaled.cache_key
    ready = ready_of()
    launch_of(ready, **USUAL)
    launch_of(ready, **USUAL)
    monkeypatch.setitem(scaled.fn.__globals__, "STEP", 5)

    with pytest.raises(RuntimeError, match="STEP has changed"):
        launch_of(ready, **USUAL)
    assert len(machine.runs) == 2


def test_what_a_compiler_hook_vetoes_is_not_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = ready_of()
    with monkeypatch.context() as patched:
        patched.setattr(JITFunction, "_do_compile", lambda *_arguments: None)
        launch_of(ready, **USUAL)
    assert ready.handles == {(): None}
    launch_of(ready, **USUAL)

    assert machine.compiled == len(machine.runs) == 1


def test_a_launcher_replaced_under_its_own_name_before_ours_was_read_is_not_taken_for_tritons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(JITFunction, "run", wraps(JITFunction.run)(lambda *_arguments, **_options: None))
    spec = find_spec(handle.__name__)
    assert spec is not None
    assert spec.loader is not None
    read_after = module_from_spec(spec)
    spec.loader.exec_module(read_after)

    assert handle._IS_READ
    assert not read_after._IS_READ


def test_what_torch_compile_traces_is_an_ordinary_launch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = ready_of()
    launch_of(ready, **USUAL)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    launch_of(ready, **USUAL)

    assert (len(machine.runs), machine.by_handle) == (2, 0)


def test_a_kernel_that_is_interpreted_is_launched_by_its_interpreter(machine: Machine) -> None:
    seen: list[Any] = []

    class Interpreted:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *arguments, **constants: seen.append((grid, len(arguments), constants))

    launch_of(ready_of(), **USUAL | {"kernel": Interpreted()})

    assert seen == [((2, 3), 4, {"BLOCK": 128, "POWER": 2, "num_warps": 4})]
    assert not machine.runs


def test_other_vendors_and_unread_releases_go_tritons_way(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_machine(monkeypatch, "gfx942") as machine:
        ready = ready_of()
        launch_of(ready, **USUAL)
        launch_of(ready, **USUAL)
        assert (len(machine.runs), machine.by_handle, ready.handles) == (2, 0, {(): None})
    with stub_machine(monkeypatch) as machine:
        monkeypatch.setattr(handle, "_IS_READ", False)
        launch_of(ready, **USUAL)
        launch_of(ready, **USUAL)
        assert (len(machine.runs), machine.by_handle, ready.handles) == (2, 0, {(): None})


def test_code_that_is_really_compiled_is_launched_as_by_triton(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Triton's own `CompiledKernel`, up to the loading of its code and the call into the driver."""
    runs: list[tuple[Any, ...]] = []
    stub = Stub("sm_90")
    stub.utils.load_binary = lambda name, *_more: ("module", f"function {name}", 32, 0, 1024)
    stub.launcher_cls = lambda source, metadata: (  # type: ignore[attr-defined]
        lambda *given: runs.append((dict(source.signature), source.attrs, metadata.num_warps, *map(shown, given)))
    )
    by_handle: list[None] = []
    launch = handle._launch
    monkeypatch.setattr(handle, "_launch", lambda *given: (by_handle.append(None), launch(*given)))
    monkeypatch.setattr(driver, "_active", stub)
    ready = ready_of()
    with knobs.cache.scope():
        knobs.cache.dir = str(tmp_path)
        for turn in 2 * [USUAL, USUAL | {"x": BASE[1:65]}, USUAL | {"stride": 1}]:
            launch_of(ready, **turn)
            with monkeypatch.context() as patched:
                patched.setattr(handle, "_IS_READ", False)
                launch_of(ready, **turn)
            ours, tritons = runs[-2:]
            assert ours == tritons

    assert len(by_handle) == 2
    assert len({str(run[:2]) for run in runs}) == 3


def test_this_release_of_triton_is_one_that_was_read() -> None:
    """Else nothing above tests anything; a release that is added here was read, and passes the rest."""
    assert handle._IS_READ


def test_a_call_keeps_a_bounded_number_of_handles(machine: Machine) -> None:
    ready = ready_of()
    for stride in range(2, 3 * MOST_HANDLES):
        launch_of(ready, **USUAL | {"stride": stride})

    assert 0 < len(ready.handles) <= MOST_HANDLES
    assert machine.runs


def weight_of(kernel: str) -> Any:
    case = make_case(1, N, K, bits=4, rank=16, dtype=torch.bfloat16, device=CPU)
    return prepared_for(KERNELS[kernel], case, "grid7")


def calls() -> list[tuple[Tensor, Tensor | None]]:
    """Activations and biases that differ in what a launch is specialised on."""
    wide = torch.randn(16, 2 * K + 8).bfloat16()
    bias_N = torch.randn(N).bfloat16()
    few = wide[:4, :K].contiguous()
    return [
        (few, None),
        (wide[:4, :K], None),
        (wide[:4, : 2 * K : 2], None),
        (wide[:4, 1 : K + 1], None),
        (wide[:1, :K], None),
        (wide[:3, :K], None),
        (wide[:1, :K], bias_N),
        (few, bias_N),
        (few, bias_N.float()),
        (few, bias_N.repeat(2)[1 : N + 1]),
    ]


@pytest.mark.parametrize("kernel", PRODUCTS)
def test_a_product_runs_what_triton_would_run_whatever_the_weight_was_called_with_before(
    kernel: str, machine: Machine
) -> None:
    kept = weight_of(kernel)
    tokens = [] if kernel in {"rank_expanded", "blockwise"} else [(torch.randn(16, K).bfloat16(), None)]
    for x_MK, bias_N in 4 * (calls() + tokens):
        KERNELS[kernel].launch(x_MK, kept, bias_N, None)
        expected = in_tritons_way(lambda: KERNELS[kernel].launch(x_MK, kept, bias_N, None), machine)  # noqa: B023
        assert machine.runs.pop() == expected

    aligned = sum(x.data_ptr() % 16 == 0 and (b is None or b.data_ptr() % 16 == 0) for x, b in calls() + tokens)
    assert machine.by_handle >= 2 * aligned


@pytest.mark.parametrize("kernel", ["rank_expanded", "scale_tile", "blockwise"])
def test_a_second_launch_goes_by_a_handle_of_its_own(kernel: str, machine: Machine) -> None:
    found, kept = KERNELS[kernel], weight_of(kernel)
    assert found.tuning is not None
    config = found.tuning.config()(last_sums=False)
    for x_MK, bias_N in 3 * calls():
        found.launch(x_MK, kept, bias_N, config)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(handle, "_IS_READ", False)
            found.launch(x_MK, kept, bias_N, config)
        first, second, *expected = machine.runs
        assert [first, second] == expected
        assert second[0][0] == "sum_partials_kernel"
        machine.runs.clear()

    # Of ten calls eight are aligned, and the sums of nine.
    assert machine.by_handle >= 8 + 9


def test_a_factor_whose_tensor_is_changed_in_place_runs_code_of_its_own(machine: Machine) -> None:
    """As `Module.half()` changes parameters."""
    operands = operands_of(weight_of("scale_tile"))
    scale_tile = kernel_module("scale_tile.launch")
    x_MK = torch.randn(4, K).bfloat16()
    scale_tile.launch(x_MK, operands)
    operands.b_NR.data = operands.b_NR.data.float()
    scale_tile.launch(x_MK, operands)

    expected = in_tritons_way(lambda: scale_tile.launch(x_MK, operands), machine)
    assert machine.runs[0] != machine.runs[1] == expected
    assert machine.by_handle == 0


def test_a_result_elsewhere_or_of_other_strides_runs_code_of_its_own(machine: Machine) -> None:
    operands = operands_of(weight_of("scale_tile"))
    scale_tile = kernel_module("scale_tile.launch")
    x_MK = torch.randn(4, K).bfloat16()
    wide = torch.zeros(4, 2 * N + 1).bfloat16()
    results = [wide[:, :N], wide[:, 1 : N + 1], wide[:, :N].contiguous(), wide[:, :N].float()]
    for out in 2 * results:
        scale_tile.launch(x_MK, operands, out=out)
        expected = in_tritons_way(lambda: scale_tile.launch(x_MK, operands, out=out), machine)  # noqa: B023
        assert machine.runs.pop() == expected


def test_calls_of_one_shape_differ_in_their_constants(machine: Machine) -> None:
    """Two calls that are ready keep handles of their own."""
    first, second = (
        ready_of(),
        replace(ready_of(), constants={"BLOCK": 256, "POWER": 2, "num_warps": 8}, handles={(): None}),
    )
    for ready in (first, second, first, second):
        launch_of(ready, **USUAL)

    assert machine.runs[0] == machine.runs[2] != machine.runs[1] == machine.runs[3]
    assert machine.by_handle == 2


@pytest.mark.parametrize("kernel", PRODUCTS)
def test_what_a_handle_runs_in_the_emulator_is_right_to_the_bit(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_handle: list[None] = []
    launch = handle._launch
    monkeypatch.setattr(handle, "_launch", lambda *given: (by_handle.append(None), launch(*given)))
    case = make_case(4, 32, 256, bits=4, rank=16, dtype=torch.bfloat16, device=CPU)
    weight = prepared_for(KERNELS[kernel], case, "grid7")
    wide = torch.randn(4, 520).bfloat16()
    turns = [wide[:, :256], wide[:, 1:257], wide[:, :512:2], wide[:1, :256]]
    with emulated_target("sm_90") as device:
        with monkeypatch.context() as patched:
            patched.setattr(handle, "_IS_READ", False)
            expected = [KERNELS[kernel].launch(x_MK, weight, None, None) for x_MK in turns]
        by_turn = [
            [torch.equal(KERNELS[kernel].launch(x_MK, weight, None, None), y_MN) for _ in range(3)]
            for x_MK, y_MN in zip(turns, expected, strict=True)
        ]

    assert by_turn == 4 * [3 * [True]]
    assert counted_faults(device) == ()
    # Every layout but that at an odd address; the third launch at the latest.
    assert len(by_handle) >= 3
