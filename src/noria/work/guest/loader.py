"""Builds functions, classes and data from the steps of an archive."""

from __future__ import annotations

import builtins
import importlib
import linecache
import sys
import types
from collections.abc import Callable
from typing import Any

from . import container
from .container import MalformedArchive, Step
from .decoder import decode
from .kinds import UnencodableValue

ANNOTATIONS_AS_TEXT = 0x1000000
"""Compiler flag of ``from __future__ import annotations``: annotations may name what does not travel."""


class Program:
    """What the steps so far have built."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.modules: dict[str, types.ModuleType] = {}
        self.classes: dict[str, type] = {}
        self.sources: dict[str, list[tuple[int, str]]] = {}

    def value(self, data: bytes) -> Any:
        """Decode a value that may refer to what has been built."""
        return decode(data, class_of=self.class_of, referred=self.referred)

    def referred(self, number: int) -> Any:
        """Return the object of an earlier step."""
        return self.objects[number]

    def class_of(self, name: str) -> type | None:
        """Return the class of the archive that has this name."""
        found = self.classes.get(name)
        if found is None:
            module, _, path = name.partition(":")
            value: Any = self.modules.get(module)
            for part in path.split("."):
                value = getattr(value, part, None)
            if isinstance(value, type) and f"{value.__module__}:{value.__qualname__}" == name:
                found = self.classes[name] = value
        return found

    def class_name(self, kind: type) -> str:
        """Return the name of a class of the archive."""
        name = f"{kind.__module__}:{kind.__qualname__}"
        if self.class_of(name) is not kind:
            raise UnencodableValue(
                f"the class {kind.__qualname__} did not travel with the function",
                "define it at the top level of a module and use it by name in the function",
            )
        return name

    def run(self, steps: tuple[Step, ...]) -> None:
        """Take the steps in order."""
        for kind, *fields in steps:
            self.objects.append(ACTIONS[kind](self, *fields))

    def module(self, name: str, file: str) -> types.ModuleType:
        """Make an empty module of the user's."""
        module = self.modules.get(name) or types.ModuleType(name)
        module.__file__ = file
        # Python code finds them anyway; C code that imports on behalf of the module does not.
        module.__dict__["__builtins__"] = builtins
        parent, _, last = name.rpartition(".")
        is_package = file.endswith("__init__.py")
        module.__package__ = name if is_package else parent
        if is_package:
            module.__path__ = []
        if parent:
            setattr(self.module(parent, parent.replace(".", "/") + "/__init__.py"), last, module)
        self.modules[name] = sys.modules[name] = module
        return module

    def imported(self, module: str, path: str) -> Any:
        """Import from the runtime."""
        value: Any = importlib.import_module(module)
        for part in path.split(".") if path else ():
            value = getattr(value, part)
        if isinstance(value, type):
            self.classes[f"{value.__module__}:{value.__qualname__}"] = value
        return value

    def attribute(self, number: int, path: str) -> Any:
        """Take an attribute of an object."""
        value = self.objects[number]
        for part in path.split("."):
            value = getattr(value, part)
        return value

    def cell(self) -> types.CellType:
        """Make the variable of an enclosing function, still empty."""
        return types.CellType()

    def compiled(self, file: str, line: int, text: str) -> Any:
        """Compile a piece of source at its place in its file, so that tracebacks name the right lines."""
        self.sources.setdefault(file, []).append((line, text))
        source = "\n" * (line - 1) + text
        return compile(source, file, "exec", flags=ANNOTATIONS_AS_TEXT, dont_inherit=True)

    def function(
        self,
        home: int,
        name: str,
        qualified: str,
        inner: str,
        file: str,
        line: int,
        text: str,
        variables: tuple[str, ...],
        cells: tuple[int, ...],
    ) -> types.FunctionType:
        """Make a function of its source."""
        code = find_code(self.compiled(file, line, text), inner)
        if code is None:
            raise MalformedArchive(f"the source of {qualified} holds no function {inner}")
        contents = {variable: self.objects[cell] for variable, cell in zip(variables, cells, strict=True)}
        missing = [variable for variable in code.co_freevars if variable not in contents]
        if missing:
            raise MalformedArchive(f"the function {qualified} came without its variable {missing[0]}")
        closure = tuple(contents[variable] for variable in code.co_freevars)
        namespace = self.objects[home].__dict__
        function = types.FunctionType(
            code.replace(co_qualname=qualified), namespace, name, None, closure if closure else None
        )
        function.__qualname__ = qualified
        return function

    def class_(self, home: int, name: str, file: str, line: int, text: str) -> Any:
        """Run a class statement."""
        module = self.objects[home]
        exec(self.compiled(file, line, text), module.__dict__)
        kind = module.__dict__[name]
        self.classes[f"{module.__name__}:{name}"] = kind
        return kind

    def call(self, data: bytes) -> Any:
        """Make an object by calling what makes it."""
        function, positional, named = self.value(data)
        made = function(*positional, **named)
        if isinstance(made, type):
            self.classes[f"{made.__module__}:{made.__qualname__}"] = made
        return made

    def fill(self, number: int, data: bytes) -> None:
        """Give a variable of an enclosing function its content."""
        self.objects[number].cell_contents = self.value(data)

    def defaults(self, number: int, data: bytes) -> None:
        """Give a function its defaults and attributes."""
        function = self.objects[number]
        positional, named, attributes = self.value(data)
        function.__defaults__ = positional
        function.__kwdefaults__ = named
        function.__dict__.update(attributes)

    def global_(self, number: int, name: str, data: bytes) -> None:
        """Bind a global."""
        self.objects[number].__dict__[name] = self.value(data)

    def show_sources(self) -> None:
        """Give `linecache`, and so tracebacks, the source that has arrived."""
        for file, pieces in self.sources.items():
            lines: list[str] = []
            for first, text in pieces:
                piece = text.splitlines(keepends=True)
                lines.extend(["\n"] * (first - 1 + len(piece) - len(lines)))
                for place, line in enumerate(piece, first - 1):
                    if line.strip():
                        lines[place] = line
            linecache.cache[file] = (sum(map(len, lines)), None, lines, file)


ACTIONS: dict[str, Callable[..., Any]] = {
    container.MODULE: Program.module,
    container.IMPORT: Program.imported,
    container.ATTRIBUTE: Program.attribute,
    container.CELL: Program.cell,
    container.FUNCTION: Program.function,
    container.CLASS: Program.class_,
    container.CALL: Program.call,
    container.FILL: Program.fill,
    container.DEFAULTS: Program.defaults,
    container.GLOBAL: Program.global_,
}


def find_code(code: types.CodeType, name: str) -> types.CodeType | None:
    """Return the outermost code called `name` within `code`."""
    inside = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for candidate in inside:
        if candidate.co_name == name:
            return candidate
    for candidate in inside:
        found = find_code(candidate, name)
        if found is not None:
            return found
    return None
