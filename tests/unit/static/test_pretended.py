"""Triton compiles for a GPU that is not there, launch by launch, as it would for one that is."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lords_bench.errors import UsageError
from lords_bench.static.pretended import Launch, Until, pretended_target
from lords_bench.static.target import named_target

pytest.importorskip("triton")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def samples() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        import sample_kernels

        yield sample_kernels
    sys.modules.pop("sample_kernels", None)


def launched(samples: ModuleType, target: str = "sm_80", *, until: Until = "nothing", k: int = 128) -> Launch:
    """A launch of the sample on tensors without memory."""
    from triton import language as tl

    found: list[Launch] = []
    x, y = torch.empty(16, k, dtype=torch.float16, device="meta"), torch.empty(16, 16, device="meta")
    with pretended_target(named_target(target), found.append, until=until):
        samples.multiply_blocks[lambda given: (given["K"] // 16, 2)](
            x, x, y, K=k, BLOCK=64, DTYPE=tl.float16, num_warps=1
        )
    (launch,) = found
    return launch


def test_a_launch_is_described_as_triton_specialised_it(samples: ModuleType) -> None:
    launch = launched(samples, k=128)

    assert launch.name == "multiply_blocks"
    assert launch.grid == (8, 2, 1)
    assert dict(launch.signature) == {
        "x_ptr": "*fp16", "w_ptr": "*fp16", "y_ptr": "*fp32", "K": "i32", "BLOCK": "constexpr", "DTYPE": "constexpr",
    }  # fmt: skip
    assert launch.constexprs["BLOCK"] == 64
    assert launch.args["K"] == 128
    assert launch.divisible_by_16 == {"x_ptr", "w_ptr", "y_ptr", "K"}
    assert launch.num_warps == 1


def test_an_integer_that_is_one_is_compiled_in(samples: ModuleType) -> None:
    launch = launched(samples, k=1)

    assert launch.signature["K"] == "constexpr"
    assert launch.constexprs["K"] == 1
    assert "K" not in launch.args


def test_a_tensor_off_16_bytes_is_not_taken_for_an_aligned_one(samples: ModuleType) -> None:
    found: list[Launch] = []
    x = torch.empty(17, dtype=torch.float16)[1:]

    with pretended_target(named_target("sm_80"), found.append, until="nothing"):
        samples.undefined_name[(1,)](x)

    assert found[0].divisible_by_16 == frozenset()


@pytest.mark.parametrize("target", ["sm_90", "gfx942"])
def test_what_is_recorded_has_the_key_of_what_is_compiled(samples: ModuleType, target: str) -> None:
    recorded = launched(samples, target)
    compiled = launched(samples, target, until="binary")

    assert recorded.hash == compiled.hash
    assert len(compiled.asm["cubin" if target == "sm_90" else "hsaco"]) > 1000
    assert compiled.metadata.shared > 0


def test_targets_do_not_share_what_was_compiled(samples: ModuleType) -> None:
    assert len({launched(samples, target).hash for target in ("sm_80", "sm_90", "gfx942", "gfx1100")}) == 4


def test_assembly_can_stand_for_the_binary_and_leaves_triton_s_cache_alone(samples: ModuleType, tmp_path: Path) -> None:
    stopped = launched(samples, until="assembly")
    binary = launched(samples, until="binary")

    assert stopped.asm["cubin"] == stopped.asm["ptx"].encode()
    assert binary.asm["cubin"].startswith(b"\x7fELF")
    assert (tmp_path / "until-assembly").is_dir()


@pytest.mark.parametrize("target", ["sm_80", "gfx1100"])
def test_the_gpu_dialect_is_compiled_with_the_shared_memory_that_the_kernel_will_need(
    samples: ModuleType, target: str
) -> None:
    stopped = launched(samples, target, until="ttgir")
    binary = launched(samples, target, until="binary")

    assert stopped.asm["ttgir"] == binary.asm["ttgir"]
    assert stopped.metadata.shared == binary.metadata.shared > 0


def test_what_the_compiler_refuses_comes_out_of_the_launch(samples: ModuleType) -> None:
    found: list[Launch] = []

    with (
        pretended_target(named_target("sm_80"), found.append),
        pytest.raises(Exception, match="no_such_name is not defined"),
    ):
        samples.undefined_name[(1,)](torch.empty(16))

    assert found == []


def test_afterwards_triton_is_as_it_was(samples: ModuleType) -> None:
    from triton import knobs
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    def state() -> tuple[object, ...]:
        return dict(vars(JITFunction)), dict(vars(driver)), knobs.cache.dir

    before = state()

    launched(samples, until="ttgir")
    launched(samples, until="nothing")

    assert state() == before
    assert knobs.runtime.add_stages_inspection_hook is None


def test_a_recorded_launch_has_no_machine_code(samples: ModuleType) -> None:
    with pytest.raises(UsageError, match=r"multiply_blocks was recorded, not compiled; ask for until='binary'"):
        launched(samples).asm["ptx"]


def test_the_interpreter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    with (
        pytest.raises(UsageError, match="interpreter is on, so nothing can be compiled; unset TRITON_INTERPRET"),
        pretended_target(named_target("sm_80"), print),
    ):
        pass
