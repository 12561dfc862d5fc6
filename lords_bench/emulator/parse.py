"""PTX text to instructions: one entry function, its parameters, registers and labels.

Inline assembly opens scopes with registers of their own; a register of a scope gets the scope's number behind its name
(`t3@2`), so that the rest of the emulator sees one flat set of names.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from lords_bench.errors import EmulationError

Operand = str | tuple[str, ...]

_ENTRY = re.compile(r"\.entry\s+([\w$]+)")
_TARGET = re.compile(r"^\.target\s+(\w+)", re.MULTILINE)
_PARAMETER = re.compile(r"\.param\s+\.([usfb]\d+)[^,)]*?([\w$]+)\s*(?=[,)])")
_THREADS = re.compile(r"\.reqntid\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")
_MOST_REGISTERS = re.compile(r"\.maxnreg\s+(\d+)")
_FUNCTION = re.compile(r"^\s*(?:\.\w+\s+)*\.func\s", re.MULTILINE)
_LABEL = re.compile(r"([$\w]+):")
_GUARD = re.compile(r"@(!?)(\S+)\s+")
_LOCATION = re.compile(r"\.loc\s+\d+\s+(\d+)\s+(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Instruction:
    """One instruction; two of the same text are two.

    Attributes:
        opcode: `ld.shared.v4.b32`.
        operands: texts; vectors are tuples of texts, addresses keep their brackets.
        guard: the predicate that it depends on, `!` before it if negated; None if it has none.
        line: of the PTX text.
        source: `kernel.py:66:15`, empty where the compiler does not say.
        text: as it stands in the PTX text.
    """

    opcode: str
    operands: tuple[Operand, ...]
    guard: str | None
    line: int
    source: str
    text: str

    @property
    def name(self) -> str:
        """The opcode's first part."""
        return self.opcode.partition(".")[0]

    @property
    def modifiers(self) -> tuple[str, ...]:
        """The opcode's other parts."""
        return tuple(self.opcode.split(".")[1:])

    def __str__(self) -> str:
        return f"ptx:{self.line} {self.text}" + (f" ({self.source})" if self.source else "")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Program:
    """One entry function.

    Attributes:
        name: of the function.
        target: `sm_90a`.
        parameters: (name, type) in order.
        threads: of a CTA, in one dimension.
        most_registers: per thread, where the text limits them.
        instructions: in order of the text.
        labels: to the instruction behind them.
        widths: bits of a register by the letters before its number.
    """

    name: str
    target: str
    parameters: tuple[tuple[str, str], ...]
    threads: int
    most_registers: int | None
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    widths: Mapping[str, int]


def parse(text: str) -> Program:
    """The program of the one entry function in `text`.

    Raises:
        EmulationError: no entry function, or one without a number of threads, or with threads in more dimensions.
    """
    head, body, first_line = _split(text)
    name, target, threads = _ENTRY.search(head), _TARGET.search(text), _THREADS.search(head)
    if name is None or target is None:
        raise EmulationError("PTX text has no entry function or no target; give what Triton compiled")
    if threads is None or {threads[2] or "1", threads[3] or "1"} != {"1"}:
        raise EmulationError(f"{name[1]} does not say .reqntid in one dimension; give what Triton compiled")
    most = _MOST_REGISTERS.search(head)
    reader = _Reader(body, first_line)
    reader.read()
    return Program(
        name=name[1],
        target=target[1],
        parameters=tuple((parameter, kind) for kind, parameter in _PARAMETER.findall(head)),
        threads=int(threads[1]),
        most_registers=int(most[1]) if most else None,
        instructions=tuple(reader.instructions),
        labels=reader.labels,
        widths=reader.widths,
    )


def parse_block(text: str) -> tuple[Instruction, ...]:
    """Instructions of a block of inline assembly, whose operands are still `$0`, `$1` and so on."""
    reader = _Reader(text, 1)
    reader.read()
    return tuple(reader.instructions)


def _split(text: str) -> tuple[str, str, int]:
    """The entry function's head, what follows its opening brace, and the line that this begins in."""
    entry = text.find(".entry")
    begin = text.find("\n{", entry)
    if entry < 0 or begin < 0:
        raise EmulationError("PTX text has no entry function; give what Triton compiled")
    if _FUNCTION.search(text):
        raise EmulationError("PTX text has functions besides its kernel; the emulator runs kernels without calls")
    return text[entry:begin], text[begin + 2 :], text.count("\n", 0, begin + 2) + 1


class _Scope:
    """Registers of one block of inline assembly: single names, and families like `t<5>`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._names: set[str] = set()
        self._families: set[str] = set()

    def declare(self, name: str) -> None:
        if name.endswith(">"):
            self._families.add(name[: name.index("<")])
        else:
            self._names.add(name)

    def owns(self, name: str) -> bool:
        return name in self._names or (name.rstrip("0123456789") in self._families and name[-1].isdigit())


class _Reader:
    """Goes through the body once, to the brace that closes it; what comes behind is debug sections."""

    def __init__(self, body: str, first_line: int) -> None:
        self._body, self._line, self._source = body, first_line, ""
        self._scopes: list[_Scope] = []
        self._scope_count = 0
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.widths: dict[str, int] = {}

    def read(self) -> None:
        for statement, line in self._statements():
            if statement.startswith("."):
                self._declare(statement)
            else:
                self.instructions.append(self._instruction(statement, line))

    def _statements(self) -> Iterator[tuple[str, int]]:
        """Text of each statement, with the line that it begins in; braces, labels and locations are taken in."""
        pending, begun = "", self._line
        for text in self._body.split("\n"):
            code, _, comment = text.partition("//")
            code = self._without_location(code.strip(), comment)
            while code:
                if not pending:
                    begun = self._line
                    if label := _LABEL.match(code):
                        self.labels[label[1]] = len(self.instructions)
                        code = code[label.end() :].lstrip()
                        continue
                    if code[0] in "{}":
                        if not self._brace(code[0]):
                            return
                        code = code[1:].lstrip()
                        continue
                before, semicolon, code = code.partition(";")
                pending = f"{pending} {before.strip()}" if pending else before.strip()
                code = code.lstrip()
                if semicolon:
                    if pending:
                        yield pending, begun
                    pending = ""
            self._line += 1

    def _without_location(self, code: str, comment: str) -> str:
        """Nothing, if the line only says where in the source what follows comes from."""
        location = _LOCATION.match(code)
        if location is None:
            return code
        self._source = comment.strip() or f"line {location[1]}:{location[2]}"
        return ""

    def _brace(self, brace: str) -> bool:
        """Open or close a scope; False if it is the function that ends."""
        if brace == "{":
            self._scope_count += 1
            self._scopes.append(_Scope(self._scope_count))
            return True
        if self._scopes:
            self._scopes.pop()
            return True
        return False

    def _declare(self, statement: str) -> None:
        if not statement.startswith(".reg"):
            return
        kind, names = statement.removeprefix(".reg").split(None, 1)
        for name in (name.strip() for name in names.split(",")):
            if self._scopes:
                self._scopes[-1].declare(name)
            else:
                self.widths[name.partition("<")[0]] = 1 if kind == ".pred" else int(kind.lstrip(".bfsu"))

    def _instruction(self, statement: str, line: int) -> Instruction:
        text = " ".join(statement.split())
        guard = _GUARD.match(text)
        opcode, _, rest = (text[guard.end() :] if guard else text).partition(" ")
        return Instruction(
            opcode=opcode,
            operands=tuple(_operands(rest, self._rename)),
            guard=guard[1] + self._rename(guard[2]) if guard else None,
            line=line,
            source=self._source,
            text=text,
        )

    def _rename(self, name: str) -> str:
        for scope in reversed(self._scopes):
            if scope.owns(name):
                return f"{name}@{scope.number}"
        return name


def _operands(text: str, rename: Callable[[str], str]) -> Iterator[Operand]:
    """Operands between top-level commas; `{a, b}` is a tuple, `p|q` two names still joined."""
    for part in _top_level(text):
        if part.startswith("{"):
            yield tuple(rename(name.strip()) for name in part[1:-1].split(","))
        elif part.startswith("["):
            base, plus, offset = part[1:-1].partition("+")
            yield f"[{rename(base.strip())}{plus}{offset.strip()}]"
        elif part.startswith("!"):
            yield f"!{rename(part[1:])}"
        else:
            yield "|".join(rename(name.strip()) for name in part.split("|"))


def _top_level(text: str) -> Iterator[str]:
    depth, current = 0, ""
    for character in text:
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            yield current.strip()
            current = ""
        else:
            current += character
    if current.strip():
        yield current.strip()
