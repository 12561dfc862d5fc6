"""Break the project on purpose in a clone, and see what is said.

    python -m lords_bench.suites.studies.gate_drill [--repeats N]

Every break is an edit of a real file, followed by the real `lords-bench gate …`, or the check of a kernel in the
emulator; then the file is restored and the same command must be green again. Last, the unchanged tree is gated over and
over. Prints a Markdown table; the exit code is 1 if anything came out other than expected. Most of its time goes to
fake timings of the unchanged tree, 50 CPU seconds each, and to the emulator, two minutes for a break: `--repeats 3
--only spill` is a quick one.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from lords_bench.isolate import run

ROOT = Path(__file__).resolve().parents[2]
ONE_KERNEL = ("gate", "--static", "--only", "scale_tile 4 bit M≤8 bfloat16", "--targets", "sm_80")
NF4 = ("gate", "--accuracy", "--baseline", "HEAD", "--methods", "nf4", "--bits", "4")
FAKE = (
    "gate",
    "--latency",
    "--fake",
    "--baseline",
    "HEAD",
    "--cases",
    "llama-3-8b/q_proj+o_proj-m1-b4-g64,llama-3-8b/q_proj+o_proj-m16-b4-g64",
)
# Shipped code of one kernel, executed: products of fragments decoded in registers, and sums of several programs.
EMULATED_GEMM = ("kernels", "--check", "--device", "emulated-sm_80", "--only", "scale_tile_gemm")
EMULATED_DECODE = ("kernels", "--check", "--device", "emulated-sm_90", "--only", "rank_expanded")
KERNEL = "kernels/scale_tile/kernel.py"
PINS = "reports/static/sm_80.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Break:
    """A way to make the project worse.

    Attributes:
        name: what it is.
        file: what is edited.
        old: text that occurs in the file; its first occurrence becomes `new`.
        command: of `lords-bench`, that must catch it.
        exit_code: what it must end with.
        message: what it must print.
    """

    name: str
    file: str
    old: str
    new: str
    command: tuple[str, ...]
    exit_code: int
    message: str


BREAKS = (
    Break(
        name="a spill: four times the rows per warp",
        file="kernels/scale_tile/space.py",
        old="        blocks_k=blocks_k, tiles_per_program=per_program,\n",
        new="        block_n=256, blocks_k=blocks_k, tiles_per_program=per_program,\n",
        command=ONE_KERNEL,
        exit_code=1,
        message=r"kernels/scale_tile/kernel.py\): spills appeared: 0 → [1-9]",
    ),
    Break(
        name="a lost tl.dot: the product summed element by element",
        file=KERNEL,
        old='total = tl.dot(levels[position] * scale, x_tiles[position], total, input_precision="ieee")',
        new="total += tl.sum((levels[position] * scale).to(tl.float32), axis=1)[:, None]",
        command=ONE_KERNEL,
        exit_code=1,
        message=r"kernels/scale_tile/kernel.py\): tensor-core work lost",
    ),
    Break(
        name="a narrowed load: codes from an odd address",
        file=KERNEL,
        old="load_words(tile_ptr + ",
        new="load_words(tile_ptr + 1 + ",
        command=ONE_KERNEL,
        exit_code=1,
        message=r"kernels/scale_tile/kernel.py\): global loads narrowed",
    ),
    Break(
        name="an uncoalesced load: neighbouring threads read addresses far apart, and the result stays right",
        file="kernels/fake_quantize/kernel.py",
        old="tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)",
        new="tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K) % 8 * (BLOCK_K // 8) + tl.arange(0, BLOCK_K) // 8",
        command=("gate", "--static", "--only", "fake_quantize", "--targets", "sm_90"),
        exit_code=1,
        message=r"regression: fake_quantize on sm_90: uncoalesced: (load|store) of ",
    ),
    Break(
        name="a wrong fragment layout: the two lanes of a decoded register exchanged",
        file="kernels/common/ptx.py",
        old="zero_extend = field | (8 | field) << 4 | (4 + field) << 8 | (8 | 4 + field) << 12",
        new="zero_extend = (4 + field) | (8 | 4 + field) << 4 | field << 8 | (8 | field) << 12",
        command=EMULATED_GEMM,
        exit_code=1,
        message=r"scale_tile_gemm m\d+\S+: incorrect: error is .* times its bound",
    ),
    Break(
        name="a missing wait: the last program reads sums that it did not wait for",
        file="kernels/common/split_k.py",
        old='sem="acq_rel"',
        new='sem="relaxed"',
        command=EMULATED_DECODE,
        exit_code=1,
        message=r"rank_expanded m\d+\S+: incorrect: .* another CTA",
    ),
    Break(
        name="a worse codebook: one of NF4's levels moved",
        file="lords_bench/quant.py",
        old="-0.28444138169288635",
        new="-0.34",
        command=NF4,
        exit_code=1,
        message=r"regression: nf4-b4-g64: KL ",
    ),
    Break(
        name="quantized weights that are never swapped in",
        file="suites/accuracy/measure.py",
        old="weights = {name: layer.weight_NK for name, layer in quantized.items()}",
        new="weights: dict[str, Tensor] = {}",
        command=NF4,
        exit_code=2,
        message=r"invalid: nf4-b4-g64: .* the model that was scored is not the one that was quantized",
    ),
    Break(
        name="bits undercounted: a quarter of the stored bytes left out",
        file="suites/accuracy/layers.py",
        old="sum(tensor.nbytes for tensor in quantized.tensors().values())",
        new="sum(tensor.nbytes for tensor in quantized.tensors().values()) * 3 // 4",
        command=NF4,
        exit_code=2,
        message=r"invalid: nf4-b4-g64: .* its spec and shape 512×512 need 139264",
    ),
    Break(
        name="norms of the weights doubled, so that errors look half",
        file="suites/accuracy/layers.py",
        old="squared_norm=float(own_NK.square().sum())",
        new="squared_norm=2 * float(own_NK.square().sum())",
        command=NF4,
        exit_code=2,
        message=r"invalid: nf4-b4-g64: .* the norms of their layers' own weights differ",
    ),
    Break(
        name="another block under the same name",
        file="suites/accuracy/cases.py",
        old="specs=(spec,),",
        new="specs=(QuantSpec(method=spec.method, bits=spec.bits, block=128),),",
        command=NF4,
        exit_code=2,
        message=r"invalid: nf4-b4-g64: .* spec\.block 128 here, 64 there",
    ),
    Break(
        name="a missing benchmark: a kernel's case is gone",
        file="kernels/fake_quantize/__init__.py",
        old="    cases=_cases,\n",
        new="",
        command=("gate", "--static", "--only", "fake_quantize", "--targets", "sm_80"),
        exit_code=1,
        message=r"regression: fake_quantize 4 bit on sm_80: vanished: it is pinned",
    ),
    Break(
        name="a missing benchmark of the latency suite",
        file="lords_bench/records/latency.py",
        old='label="QLoRA, merged and quantized again", bits=BITS',
        new='label="QLoRA, merged and quantized again", bits=(3, 2)',
        command=FAKE,
        exit_code=1,
        message=r"vanished: the baseline times it in 3 processes, this tree in 0",
    ),
    Break(
        name="a doctored baseline: a pin's registers",
        file=PINS,
        old='"registers":',
        new='"registers":1',
        command=ONE_KERNEL,
        exit_code=2,
        message=r"sm_80\.jsonl, line 1 is not believed: checksum does not fit the record",
    ),
    Break(
        name="a stale schema: a pin of major version 0",
        file=PINS,
        old="lords-bench/fingerprint/1.",
        new="lords-bench/fingerprint/0.",
        command=ONE_KERNEL,
        exit_code=2,
        message=r"schema 'lords-bench/fingerprint/0\.\d+' has major version 0",
    ),
    Break(
        name="a device 2 % slower",
        file="suites/latency/fake.py",
        old="    return max(call, ",
        new="    return (1.02 if method == SUBJECT else 1.0) * max(call, ",
        command=FAKE,
        exit_code=1,
        message=r"regression: .* lords \((cold|hot)\): slower: time \+",
    ),
)

# An unchanged tree, gated by all layers, and with the numbers really made again.
UNCHANGED = (
    ("gate", "--static", "--accuracy", "--latency", "--fake", "--baseline", "HEAD", "--strict"),
    (*FAKE, "--measure-anyway"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """What a command ended with, what it printed, and how long it took."""

    exit_code: int
    output: str
    seconds: float


def main() -> int:
    """Run the drill; 0 if everything came out as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=20, metavar="N", help="gates of the unchanged tree (default: 20)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="breaks whose name contains TEXT")
    arguments = parser.parse_args()
    right = True
    with tempfile.TemporaryDirectory(prefix="lords-bench-drill-") as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        say("| break | command | exit code | after the revert | what it says |\n|---|---|--:|--:|---|")
        for item in BREAKS:
            if arguments.only in item.name:
                right = drill(clone, item) and right
        for words in UNCHANGED if not arguments.only else ():
            right = unchanged(clone, words, arguments.repeats) and right
    return 0 if right else 1


def drill(clone: Path, item: Break) -> bool:
    """Break, judge, revert, judge; prints a row."""
    path = clone / item.file
    text = path.read_text("utf-8")
    path.write_text(broken(text, item), "utf-8")
    red = lords_bench(clone, item.command)
    path.write_text(text, "utf-8")
    green = lords_bench(clone, item.command)
    said = next((line for line in red.output.splitlines() if re.search(item.message, line)), None)
    is_right = (red.exit_code, green.exit_code) == (item.exit_code, 0) and said is not None
    shown = said if said is not None else f"NOT {item.message}, but: {' '.join(red.output.split())[-300:]}"
    cells = (item.name, " ".join(item.command), red.exit_code, green.exit_code, shown.replace("|", "\\|"))
    say("| " + " | ".join(map(str, cells)) + " |")
    if green.exit_code:
        say(f"after the revert: {green.output}")
    return is_right


def broken(text: str, item: Break) -> str:
    """The file's text with the break in it.

    Raises:
        ValueError: the file no longer has the text that is edited.
    """
    if item.old not in text:
        raise ValueError(f"{item.file} has no {item.old!r}: mend the break {item.name!r}")
    return text.replace(item.old, item.new, 1)


def unchanged(clone: Path, words: tuple[str, ...], repeats: int) -> bool:
    """Gate the unchanged tree over and over; prints a line."""
    found = [lords_bench(clone, words) for _ in range(repeats)]
    green = sum(outcome.exit_code == 0 for outcome in found)
    seconds = sorted(outcome.seconds for outcome in found)
    median = seconds[len(seconds) // 2]
    say(f"\nunchanged, `{' '.join(words)}`: exit code 0 in {green} of {repeats}, {median:.0f} s each")
    for outcome in found:
        if outcome.exit_code:
            say(outcome.output)
    return green == repeats


def lords_bench(clone: Path, words: tuple[str, ...]) -> Ended:
    """Run that command of the clone's `lords-bench`."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "lords_bench", *words]
    done = run(command, cwd=clone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return Ended(exit_code=done.returncode, output=done.stdout + done.stderr, seconds=time.monotonic() - begin)


def say(text: str) -> None:
    """Print at once: a row is minutes of work."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
