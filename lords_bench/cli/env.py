"""`lords-bench env`: the machine, and what it means for numbers measured on it."""

import json
from dataclasses import dataclass, fields

from rich.table import Table

from lords_bench.cli.command import Parser
from lords_bench.cli.models import choose_device
from lords_bench.cli.output import say
from lords_bench.options import option
from lords_bench.records.codec import to_plain
from lords_bench.records.environment import Environment
from lords_bench.requirements import unmet_requirements
from lords_bench.suites.baselines import installed_versions
from lords_bench.terminal import Console
from lords_bench.timing.nvml import open_nvml
from lords_bench.timing.probe import probe_environment
from lords_bench.timing.trust import TrustFinding, cpu_findings, gpu_findings


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSettings:
    """Shows this machine: what was found, what is missing, and what that means for trust in a measurement."""

    json: bool = option("what a record says about the machine, as JSON", default=False)


def add_arguments(parser: Parser) -> None:
    parser.serve(environment, EnvSettings)


def environment(settings: EnvSettings) -> int:
    """Prints what a record says about this machine, then what to think of it; with `--json` the record alone."""
    found = probe_environment(choose_device(None))
    if settings.json:
        say(json.dumps(to_plain(found), indent=1))
        return 0
    console = Console()
    console.print(_record_table(found))
    sections = [("the processor", cpu_findings()), ("the installed packages", package_findings())]
    if found.gpu_name is not None:
        nvml, missing = open_nvml(_gpu_uuid())
        sections.insert(0, (f"the GPU, {found.gpu_name}", gpu_findings(nvml, missing=missing)))
    else:
        console.print("No CUDA device: kernels can be compiled and checked in the interpreter, but not timed here.")
    for name, findings in sections:
        console.print(_trust_table(name, findings))
    concerns = sum(finding.concern is not None for _, findings in sections for finding in findings)
    console.print(f"To mind: {concerns} of the above." if concerns else "Nothing speaks against measuring here.")
    return 0


def package_findings() -> tuple[TrustFinding, ...]:
    """Required packages that are missing or of another version, then the packages of which a baseline is made."""
    unmet = unmet_requirements()
    required = [
        TrustFinding(
            topic=one.package,
            found=one.installed or "not installed",
            concern=f"{one.wanted} is required: what needs it may fail",
        )
        for one in unmet
    ]
    baselines = [
        TrustFinding(topic=name, found=found or "not installed", concern=None if found else "its baseline is not timed")
        for name, found in installed_versions()
    ]
    return (*(required or [TrustFinding(topic="required", found="all there")]), *baselines)


def _gpu_uuid() -> str:
    import torch

    return str(getattr(torch.cuda.get_device_properties(torch.cuda.current_device()), "uuid", ""))


def _record_table(found: Environment) -> Table:
    table = Table(title="What a record says about this machine", title_justify="left", show_header=False)
    for item in fields(found):
        value = getattr(found, item.name)
        table.add_row(item.name, "unknown" if value is None else str(value))
    return table


def _trust_table(name: str, findings: tuple[TrustFinding, ...]) -> Table:
    table = Table("", "found", "what it means", title=f"Measuring on {name}", title_justify="left")
    for finding in findings:
        table.add_row(finding.topic, finding.found, finding.concern or "")
    return table
