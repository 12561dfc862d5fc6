"""`Environment`: the machine, versions and source that a record was made with. Fields only; `timing.probe` fills them.

Host names are stored as a hash: enough to tell two machines apart, not enough to name one in a published report.
"""

import re
from dataclasses import dataclass
from typing import Literal

from lords_bench.errors import RecordError

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """Where a record was made; what could not be found out is None.

    Attributes:
        device: where the tensors of the run lived.
        lords_bench: version of this package.
        source_sha256: hash of the package's own Python files; unlike the commit it also tells two dirty trees apart.
        git_commit: full commit of the checkout the package was imported from; None outside one.
        git_dirty: whether code or model files differed from that commit (reports and tests do not count).
        python: interpreter version, as are the packages below.
        platform: operating system, release and machine.
        cpu_cores: logical cores this process may use.
        torch_threads: size of torch's intra-operation pool.
        gpu_name: name of the first GPU, whether or not the run used it.
        hostname_sha256: first 12 hexadecimal digits of the hash of the host name.
    """

    device: Device
    lords_bench: str
    source_sha256: str
    git_commit: str | None
    git_dirty: bool | None
    python: str
    torch: str | None
    triton: str | None
    transformers: str | None
    numpy: str | None
    platform: str
    cpu_model: str | None
    cpu_cores: int | None
    torch_threads: int | None
    memory_bytes: int | None
    gpu_name: str | None
    hostname_sha256: str | None

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise RecordError(f"environment.device is {self.device!r}; it must be 'cpu' or 'cuda'")
        if self.device == "cuda" and self.gpu_name is None:
            raise RecordError("environment.device is 'cuda' but gpu_name is None; probe the GPU's name")

    @property
    def device_name(self) -> str:
        """The processor the run computed on, in words: results of different ones are never put in one table."""
        return (self.gpu_name if self.device == "cuda" else self.cpu_model) or self.device

    @property
    def device_slug(self) -> str:
        """Folder name under `reports/`: `cpu`, or the GPU's name in lower case with dashes."""
        if self.device == "cpu":
            return "cpu"
        return slug(self.device_name)


def slug(name: str) -> str:
    """A device's name as a folder name: lower case, with dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
