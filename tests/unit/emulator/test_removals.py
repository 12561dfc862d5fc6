"""Every barrier, wait, commit and fence of real kernels is missed when it is removed, or the table says why not.

Missed is: a fault, another result, or a kernel that cannot go on. What the table holds against a removal is a number,
not a place, because compilers of different releases order a kernel's instructions differently.
"""

import re
from collections import Counter
from collections.abc import Mapping

import pytest
import torch

from lords_bench.errors import EmulationError
from lords_bench.kernel_check import check_named, make_case
from lords_bench.records.status import Status
from recorded_launches import RecordedLaunch, equal, recorded

pytest.importorskip("triton")

ORDERING = re.compile(
    r"^\s*(?:@!?\S+\s+)?(?P<name>bar\.sync|bar\.warp\.sync|cp\.async\.(?:wait_group|commit_group)|"
    r"wgmma\.(?:fence|commit_group|wait_group)|fence\.proxy\.async)[^;]*;",
    re.MULTILINE,
)

# Target, check, kernel, tokens; the first two are tried every time.
KERNELS = (
    ("sm_90", "scale_tile_gemm", "joined_gemm_kernel", 40),
    ("sm_80", "scale_tile", "scale_tile_kernel", 5),
    ("sm_90", "input_gradient", "input_gradient_kernel", 40),
    ("sm_80", "scale_tile_gemm", "split_gemm_kernel", 40),
    ("sm_80", "rank_expanded", "rank_expanded_kernel", 2),
    ("sm_80", "factor_gradients", "factor_gradients_kernel", 40),
    ("sm_80", "blockwise_gemm", "blockwise_gemm_kernel", 40),
    ("sm_90", "scale_tile", "scale_tile_kernel", 5),
    ("sm_120", "scale_tile_gemm", "split_gemm_kernel", 40),
)

JOINS_THE_NEXT = "the copies join the group that is committed next, and whoever waits for them waits for that one"
NOTHING_BETWEEN = "no two warps touch the same bytes between the barriers around it: the first one guards memory that \
nobody used yet, the last one memory that the loop's own barriers have freed"
TWICE = "the kernel's barrier before an arrival and the compiler's before its atomic follow each other: one will do"
OWN_FENCE = "the fence before the loop: every turn has its own behind the wait for its copies"
FENCED_BEFORE = "the product's operand in shared memory was handed over by the turn's first fence already"
NOT_CHANGED = "the product's accumulators are changed by products only, and its operands lie in shared memory"

# Kernel and instruction to how many removals may go unnoticed, and why.
HARMLESS: Mapping[tuple[str, str], tuple[int, str]] = {
    ("joined_gemm_kernel", "cp.async.commit_group"): (1, JOINS_THE_NEXT),
    ("split_gemm_kernel", "cp.async.commit_group"): (2, JOINS_THE_NEXT),
    ("input_gradient_kernel", "cp.async.commit_group"): (4, JOINS_THE_NEXT),
    ("blockwise_gemm_kernel", "cp.async.commit_group"): (4, JOINS_THE_NEXT),
    ("joined_gemm_kernel", "bar.sync"): (3, NOTHING_BETWEEN),
    ("split_gemm_kernel", "bar.sync"): (1, NOTHING_BETWEEN),
    ("factor_gradients_kernel", "bar.sync"): (1, NOTHING_BETWEEN),
    ("blockwise_gemm_kernel", "bar.sync"): (1, NOTHING_BETWEEN),
    ("scale_tile_kernel", "bar.sync"): (2, TWICE),
    ("rank_expanded_kernel", "bar.sync"): (2, TWICE),
    ("joined_gemm_kernel", "fence.proxy.async"): (1, FENCED_BEFORE),
    ("input_gradient_kernel", "fence.proxy.async"): (1, OWN_FENCE),
    ("input_gradient_kernel", "wgmma.fence"): (1, NOT_CHANGED),
}


def launch_of(target: str, check: str, kernel: str, tokens: int, *, bits: int = 4, k: int = 600) -> RecordedLaunch:
    """A launch of a kernel that is right and without a fault."""
    case = make_case(tokens, 70, k, bits=bits, rank=16, dtype=torch.bfloat16, device=torch.device("cpu"))
    with recorded(target) as recorder:
        result = check_named(check, case)
    assert result.status is Status.OK, result
    return recorder.of(kernel)


def is_noticed(launch: RecordedLaunch, ptx: str, right: list[torch.Tensor]) -> bool:
    """Whether the changed text gives a fault, another result, or cannot go on."""
    try:
        found, results = launch.run(ptx)
    except EmulationError:
        return True
    return bool(found.faults) or not equal(results, right)


@pytest.mark.parametrize(
    ("target", "check", "kernel", "tokens"),
    [
        pytest.param(*each, id="-".join(each[:2]), marks=() if place < 2 else pytest.mark.slow)
        for place, each in enumerate(KERNELS)
    ],
)
def test_every_removal_is_noticed_or_known_to_be_harmless(target: str, check: str, kernel: str, tokens: int) -> None:
    launch = launch_of(target, check, kernel, tokens)
    found, right = launch.run()
    assert found.faults == ()

    unnoticed: Counter[str] = Counter()
    removed = 0
    for place in ORDERING.finditer(launch.ptx):
        removed += 1
        if not is_noticed(launch, launch.ptx[: place.start("name")] + launch.ptx[place.end() :], right):
            unnoticed[place["name"]] += 1

    assert {name: count for name, count in unnoticed.items() if count > HARMLESS.get((kernel, name), (0, ""))[0]} == {}
    assert removed >= 9


# What is wrong, the text that it is done to, and what stands there then (None: it would be the same).
WRONG_CODE: Mapping[str, tuple[re.Pattern[str], str]] = {
    "nibbles of a selector": (
        re.compile(r"(prmt\.b32\s+[^;]*0x[0-9a-f]*)([0-9a-f])(?!\2)([0-9a-f])(U?;)"), r"\1\3\2\4",
    ),
    "operands of a byte permutation": (re.compile(r"(prmt\.b32\s+\S+ )(%\S+), (?!\2)(%\S+), "), r"\1\3, \2, "),
    "registers of a left operand": (
        re.compile(r"((?:wg)?mma\.\S+\s+\{[^}]*\},\s*\{\s*)(%r\d+),(\s*)(?!\2\b)(%r\d+)"), r"\1\4,\3\2",
    ),
    "registers of a right operand": (
        re.compile(r"(mma\.sync\S+\s+\{[^}]*\},\s*\{[^}]*\},\s*\{\s*)(%r\d+),(\s*)(?!\2\b)(%r\d+)"), r"\1\4,\3\2",
    ),
    "registers of a loaded matrix": (re.compile(r"(ldmatrix\S+x4\S*\s+\{)(%r\d+), (%r\d+)"), r"\1\3, \2"),
    "transposition of an operand": (re.compile(r"(wgmma\.mma_async[^;]*, )0;"), r"\g<1>1;"),
    "lane of a shuffle": (re.compile(r"(shfl\.sync\.bfly\.b32\s+\S+, \S+, )(?:1|2|4|8)\b"), r"\g<1>16"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "check", "kernel", "bits", "most"),
    [
        ("sm_90", "scale_tile_gemm", "joined_gemm_kernel", 4, 1),
        ("sm_80", "scale_tile", "scale_tile_kernel", 3, 1),
        *(
            pytest.param(target, "scale_tile_gemm", kernel, bits, 6, marks=pytest.mark.slow)
            for target, kernel in (("sm_90", "joined_gemm_kernel"), ("sm_80", "split_gemm_kernel"))
            for bits in (3, 2)
        ),
        pytest.param("sm_80", "rank_expanded", "rank_expanded_kernel", 4, 6, marks=pytest.mark.slow),
    ],
)
def test_a_wrong_selector_or_register_is_noticed(target: str, check: str, kernel: str, bits: int, most: int) -> None:
    # Whole tiles, so that no register holds rows that are not there.
    tokens = {"scale_tile": 16, "rank_expanded": 2}.get(check, 64)
    launch = launch_of(target, check, kernel, tokens, bits=bits, k=512)
    _, right = launch.run()

    unnoticed, tried = [], 0
    for what, (pattern, instead) in WRONG_CODE.items():
        places = list(pattern.finditer(launch.ptx))
        for place in places[:: -(-len(places) // most) or 1]:
            tried += 1
            ptx = launch.ptx[: place.start()] + place.expand(instead) + launch.ptx[place.end() :]
            if not is_noticed(launch, ptx, right):
                unnoticed.append(f"{what}: {place[0]}")

    assert unnoticed == []
    assert tried >= 3
