"""`CompileRequest`: a call that launches kernels, and the target to compile them for, as plain data.

The function is named by its import path and called in a worker process: the process that asks may have Triton's
interpreter switched on, in which compiling is impossible, or no Triton at all. What the call launches, and so what is
compiled, is up to it alone; nothing describes a launch a second time.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from lords_bench.static.target import Target


@dataclass(frozen=True, kw_only=True, slots=True)
class CompileRequest:
    """What is called, with what, and what for.

    Attributes:
        function: `package.module:name` of a function that launches kernels.
        arguments: its keyword arguments as canonical JSON.
        target: what the kernels are compiled for.
    """

    function: str
    arguments: str
    target: Target

    def to_json(self) -> str:
        """One line, sorted keys; `request_from_json` is its inverse."""
        return json.dumps(asdict(self), sort_keys=True)

    @property
    def keywords(self) -> dict[str, Any]:
        """The arguments as Python values."""
        found: dict[str, Any] = json.loads(self.arguments)
        return found


def request_for(function: str, target: Target, **arguments: Any) -> CompileRequest:
    """The request for a call with arguments that JSON can carry."""
    return CompileRequest(function=function, arguments=json.dumps(arguments, sort_keys=True), target=target)


def request_from_json(line: str) -> CompileRequest:
    fields = json.loads(line)
    return CompileRequest(target=Target(**fields.pop("target")), **fields)
