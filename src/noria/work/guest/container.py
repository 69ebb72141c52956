"""The bytes of a unit's input and output: how they are divided, and the steps that build a function.

::

    archive   = "NoriaPy" 01 ‖ length of the function part (4 bytes, big-endian) ‖ function part ‖ arguments
    part function  = value ("noria/function/1", steps, entry)
    arguments = value ("noria/arguments/1", steps, call)
    output    = "NoriaRe" 01 ‖ "V" ‖ value          what the function returned
              | "NoriaRe" 01 ‖ "X" ‖ value          what it raised: `Raised` as a tuple

`steps` is a tuple of tuples, each with its kind first and numbered from 0; those of the arguments go on
counting. `entry` and `call` are encoded values as byte strings: the callable, and (positional arguments,
keyword arguments). They and the byte strings in steps may refer to objects of earlier steps by number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .decoder import MalformedValue, decode
from .encoder import encode

ARCHIVE_MAGIC = b"NoriaPy\x01"
OUTPUT_MAGIC = b"NoriaRe\x01"
FUNCTION_TAG = "noria/function/1"
ARGUMENTS_TAG = "noria/arguments/1"

MAX_ARCHIVE_BYTES = 64 << 20
"""Longest archive, in bytes. Units that carry weight are bounded further by the protocol's `INPUT_MAX`."""

MAX_FUNCTION_BYTES = 16 << 20
"""Longest function part, in bytes."""

MAX_STEPS = 1 << 16
"""Steps of a function part or an arguments part."""

MAX_NAME = 1024
"""Longest name of a module, function, class or file, in characters."""

MAX_LINE = 1_000_000
"""Highest line number at which a piece of source begins."""

MODULE, IMPORT, ATTRIBUTE, FUNCTION, CLASS = "module", "import", "attribute", "function", "class"
CELL, CALL, FILL, DEFAULTS, GLOBAL = "cell", "call", "fill", "defaults", "global"

SHAPES: dict[str, tuple[type, ...]] = {
    MODULE: (str, str),  # name, file: an empty module of the user's
    IMPORT: (str, str),  # module of the runtime, dotted attribute or nothing
    ATTRIBUTE: (int, str),  # object, dotted attribute
    CELL: (),  # a variable of an enclosing function
    FUNCTION: (int, str, str, str, str, int, str, tuple, tuple),
    # module, name, qualified name, name in the source, file, line, source, enclosing variables, their cells
    CLASS: (int, str, str, int, str),  # module, name, file, line, source
    CALL: (bytes,),  # (callable, positional arguments, keyword arguments)
    FILL: (int, bytes),  # cell, content
    DEFAULTS: (int, bytes),  # function, (defaults, keyword-only defaults, attributes)
    GLOBAL: (int, str, bytes),  # module, name, value
}
"""Fields of each kind of step after the kind itself."""

REFERRING = {ATTRIBUTE, FUNCTION, CLASS, FILL, DEFAULTS, GLOBAL}
"""Kinds whose first field is the number of an earlier step."""

Step = tuple[Any, ...]


class MalformedArchive(ValueError):
    """Bytes are not an archive; the message says which part and why."""


class Raised(NamedTuple):
    """An exception on its way back."""

    kind: str
    """Module and qualified name of its type, such as ``builtins:ValueError``."""
    message: str
    arguments: bytes | None
    """Its `args` as an encoded tuple, if they have an encoding."""
    attributes: bytes | None
    """Its other attributes as an encoded dictionary, if they have an encoding."""
    notes: tuple[str, ...]
    traceback: str


def join(function: bytes, arguments: bytes) -> bytes:
    """Make an archive of its two parts."""
    return b"".join((ARCHIVE_MAGIC, len(function).to_bytes(4, "big"), function, arguments))


def split(archive: bytes) -> tuple[bytes, bytes]:
    """Return function part and arguments part of an archive."""
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise MalformedArchive(f"an archive of {len(archive)} bytes; at most {MAX_ARCHIVE_BYTES} are allowed")
    if archive[:8] != ARCHIVE_MAGIC or len(archive) < 12:
        raise MalformedArchive("not an archive of version 1: its first bytes are others")
    size = int.from_bytes(archive[8:12], "big")
    if size > MAX_FUNCTION_BYTES:
        raise MalformedArchive(f"a function part of {size} bytes; at most {MAX_FUNCTION_BYTES} are allowed")
    if size > len(archive) - 12:
        raise MalformedArchive(f"a function part of {size} bytes in {len(archive) - 12}")
    return archive[12 : 12 + size], archive[12 + size :]


def pack_part(tag: str, steps: tuple[Step, ...], last: bytes) -> bytes:
    """Make a function part or an arguments part."""
    return encode((tag, steps, last), path=tag)


def parse_part(data: bytes, tag: str, first: int = 0) -> tuple[tuple[Step, ...], bytes]:
    """Return steps and last member of a part whose first step has the number `first`."""
    try:
        part = decode(data)
    except MalformedValue as error:
        raise MalformedArchive(f"{tag}: {error}") from None
    if type(part) is not tuple or len(part) != 3 or part[0] != tag:
        raise MalformedArchive(f"{tag}: (tag, steps, value) expected")
    _, steps, last = part
    if type(steps) is not tuple or type(last) is not bytes:
        raise MalformedArchive(f"{tag}: a tuple of steps and a byte string expected")
    if len(steps) > MAX_STEPS:
        raise MalformedArchive(f"{tag}: {len(steps)} steps; at most {MAX_STEPS} are allowed")
    for number, step in enumerate(steps, first):
        problem = step_problem(step, number)
        if problem:
            raise MalformedArchive(f"{tag}: step {number}: {problem}")
    return steps, last


def step_problem(step: object, number: int) -> str | None:
    """Say what is wrong with the shape of a step, or nothing."""
    if type(step) is not tuple or not step or type(step[0]) is not str or step[0] not in SHAPES:
        return "unknown kind"
    kind, *fields = step
    if tuple(map(type, fields)) != SHAPES[kind]:
        return f"fields of {kind!r} are of the wrong number or type"
    if kind in REFERRING and not 0 <= fields[0] < number:
        return f"{kind!r} refers to step {fields[0]}, which is not before it"
    if kind in (FUNCTION, CLASS):
        names, line = fields[1:-2] if kind == CLASS else fields[1:5], fields[3 if kind == CLASS else 5]
        if not 1 <= line <= MAX_LINE:
            return f"line {line} is not between 1 and {MAX_LINE}"
    else:
        names = fields
    if any(type(name) is str and len(name) > MAX_NAME for name in names):
        return f"a name of more than {MAX_NAME} characters"
    if kind == FUNCTION:
        variables, cells = fields[7:]
        if len(variables) != len(cells) or any(type(name) is not str for name in variables):
            return "variables and cells differ"
        if any(type(cell) is not int or not 0 <= cell < number for cell in cells):
            return "a cell that is not before the function"
    return None


def pack_raised(raised: Raised) -> bytes:
    """Make the output of a function that raised."""
    return OUTPUT_MAGIC + b"X" + encode(tuple(raised), path="exception")


def parse_raised(data: bytes) -> Raised:
    """Return what `pack_raised` packed after the first nine bytes."""
    fields = decode(data)
    kinds: tuple[Any, ...] = (str, str, bytes | None, bytes | None, tuple, str)
    if (
        type(fields) is not tuple
        or len(fields) != len(kinds)
        or not all(isinstance(field, kind) for field, kind in zip(fields, kinds, strict=True))
    ):
        raise MalformedValue(
            "malformed exception: (type, message, args, attributes, notes, traceback) expected"
        )
    if any(type(note) is not str for note in fields[4]):
        raise MalformedValue("malformed exception: notes must be text")
    return Raised(*fields)
