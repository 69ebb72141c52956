"""A Python script as the input of units: sent as whole source text, never executed here.

Where `noria.work.functions` follows a function that this process has loaded, this reads a file that it has
not. The script and the modules beside it that it imports are run inside the runtime, once for each call; the
result comes back as JSON text.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from noria.work import archive, script_guest
from noria.work.guest import container
from noria.work.guest.encoder import Encoder

SOURCE_BYTES_MAX: Final = 8 << 20
"""Longest script with its modules."""
MODULES_MAX: Final = 1000
"""Most modules of a script, itself included."""

_HOME: Final = "noria_script"


class ScriptError(ValueError):
    """A script that cannot be sent; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script that has been read; made by `read_script`.

    Attributes
    ----------
    file
        Name of its file, as tracebacks show it.
    module
        Its name as a module: ``__name__`` is never ``"__main__"``.
    sources
        (File, text) of itself and of the modules beside it, by full name.
    names
        What its top level binds, as far as can be seen without running it.
    """

    file: str
    module: str
    sources: Mapping[str, tuple[str, str]]
    names: frozenset[str]

    def function(self, name: str) -> ScriptFunction:
        """Choose the function that units call.

        Parameters
        ----------
        name
            Of a function at the script's top level.

        Returns
        -------
        ScriptFunction

        Raises
        ------
        ScriptError
            If the script has no such function, or it is asynchronous.
        """
        if name not in self.names and "*" not in self.names:
            raise ScriptError(
                f"{self.file} has no function {name!r}: define it at the top level, "
                "or name another with --function"
            )
        if f"async {name}" in self.names:
            raise ScriptError(f"{name!r} of {self.file} is asynchronous: make it a plain function")
        steps: tuple[container.Step, ...] = (
            (container.IMPORT, "functools", "partial"),
            (container.MODULE, _HOME, "<noria>"),
            _written(1),
            (container.CALL, _encode((_Step(0), (_Step(2), dict(self.sources), self.module, name), {}))),
        )
        return ScriptFunction(name, archive.pack_function(steps, _encode(_Step(3))))


@dataclass(frozen=True, slots=True)
class ScriptFunction:
    """A function of a script, ready to be called in units."""

    name: str
    part: bytes
    """The function part of every archive."""

    def call(self, positional: Sequence[object], named: Mapping[str, object]) -> bytes:
        """Return the input of the unit that calls it; `decode_result` gives the result as JSON text.

        Raises
        ------
        UnencodableValue
            If an argument has no encoding.
        ArchiveTooLarge
            If all together are too long.
        """
        call = _encode(((list(positional), dict(named)), {}))
        return archive.join(self.part, archive.pack_arguments((), call))


def read_script(path: Path) -> Script:
    """Read a script and the modules beside it that it imports, without executing them.

    Parameters
    ----------
    path
        A file of Python source.

    Returns
    -------
    Script

    Raises
    ------
    ScriptError
        If it is too long, is not Python, or uses modules that cannot be sent.
    OSError
        If it cannot be read.
    """
    module = path.stem
    if not module.isidentifier() or module in sys.stdlib_module_names or module == _HOME:
        # Only a name within the unit; tracebacks show the file's.
        module = "script"
    text, tree = _parse(path, path.name, SOURCE_BYTES_MAX)
    names = frozenset(_bound(tree.body))
    sources = {module: (path.name, text)}
    left = SOURCE_BYTES_MAX - len(text)
    waiting = _imports(tree, "")
    while waiting:
        name = waiting.pop()
        file = _beside(path.parent, name)
        if file is None or name in sources:
            continue
        shown = file.relative_to(path.parent).as_posix()
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise ScriptError(f"{shown} is named like a module of the standard library: rename it")
        if len(sources) == MODULES_MAX:
            raise ScriptError(f"{path.name} imports more than {MODULES_MAX} modules beside it: use fewer")
        if file.is_dir():
            # A folder without __init__.py; an empty package does the same.
            sources[name] = f"{shown}/__init__.py", ""
        else:
            text, tree = _parse(file, shown, left)
            left -= len(text)
            sources[name] = shown, text
            waiting += _imports(tree, name if file.name == "__init__.py" else name.rpartition(".")[0])
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return Script(path.name, module, dict(sorted(sources.items())), names)


def _parse(file: Path, shown: str, limit: int) -> tuple[str, ast.Module]:
    """Read a file of source and parse it."""
    with file.open("rb") as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise ScriptError(
            f"{shown}: a script with its modules has at most {SOURCE_BYTES_MAX} bytes of source"
        )
    try:
        text = importlib.util.decode_source(data)
    except (SyntaxError, UnicodeDecodeError):
        raise ScriptError(
            f"{shown} is in an unknown encoding: save it as UTF-8, or name its encoding"
        ) from None
    try:
        # Doubtful escapes and the like are told where the script runs.
        with warnings.catch_warnings(action="ignore"):
            return text, ast.parse(text, shown)
    except SyntaxError as error:
        place = f", line {error.lineno}" if error.lineno else ""
        raise ScriptError(f"{shown}{place}: {error.msg}: correct the script") from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = "nested too deeply" if not isinstance(error, ValueError) else str(error)
        raise ScriptError(f"{shown} is not Python source: {reason}") from None


def _beside(folder: Path, name: str) -> Path | None:
    """Find the file, or the folder without ``__init__.py``, that a module's name stands for."""
    place = folder.joinpath(*name.split("."))
    for file in (place / "__init__.py", place.with_name(place.name + ".py")):
        if file.is_file():
            return file
    # A folder named like a package of the standard library or of the runtime must not hide it.
    return place if place.is_dir() and name.partition(".")[0] not in sys.stdlib_module_names else None


def _imports(tree: ast.Module, package: str) -> list[str]:
    """List what a module imports, wherever it does so, as full names that may be modules."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".") if package else []
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            if base:
                names += [base, *(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")]
    return names


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    """Yield what statements bind, within conditions and loops too; ``*`` for what cannot be known."""
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.AsyncFunctionDef(name=name):
                yield from (name, f"async {name}")
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
            case _:
                for node in ast.iter_child_nodes(statement):
                    if isinstance(node, ast.expr):
                        yield from (inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name))
                    elif isinstance(node, ast.stmt):
                        yield from _bound([node])
                    else:
                        inside = [
                            child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)
                        ]
                        yield from _bound(inside)


class _Step:
    """Stands for what an earlier step has built."""

    # Not a dataclass: the encoder would write its fields instead of asking for its number.
    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def _encode(value: object) -> bytes:
    def reference(item: object) -> int | None:
        return item.number if isinstance(item, _Step) else None

    return Encoder(reference=reference).encode(value, "arguments")


def _written(home: int) -> container.Step:
    """Write the step that makes the function which runs scripts, of its own source."""
    lines, line = inspect.getsourcelines(script_guest.call)
    return (container.FUNCTION, home, "call", "call", "call", "<noria>", line, "".join(lines), (), ())
