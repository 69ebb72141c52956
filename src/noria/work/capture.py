"""Follows a function to everything that it needs, and writes down the steps that build it elsewhere.

The walk is the same in every process: names are taken in order, never as a set happens to hold them.
Functions are built before what they use, since they use it only when called; a class comes after what its
definition uses.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import CellType, FunctionType, ModuleType
from typing import Any, Final

from noria.work import recipes, source
from noria.work.guest import container
from noria.work.guest.container import Step
from noria.work.guest.encoder import WRITERS, Encoder, is_data
from noria.work.guest.kinds import UnencodableValue, is_ordinary
from noria.work.origins import CannotTravel, GuestModules, Origin, check_origin, find_import, is_at, origin_of
from noria.work.source import Piece, SourceMissing

GIVEN: Final = frozenset(
    {
        *("__annotate__", "__annotations__", "__builtins__", "__cached__", "__conditional_annotations__"),
        *("__doc__", "__file__", "__loader__", "__module__", "__name__", "__package__", "__path__"),
        *("__qualname__", "__spec__"),
    }
)  # fmt: skip
"""Globals that the other side has of its own."""


class _Deferred(Exception):
    """A class is needed that is being defined right now."""


class Graph:
    """What has been reached so far, as steps.

    Parameters
    ----------
    guest
        What the runtime offers.
    """

    def __init__(self, guest: GuestModules) -> None:
        self.guest = guest
        self.steps: list[Step] = []
        self.first = 0
        """Number of the first of `steps`."""
        self.numbers: dict[int, int] = {}
        self.kept: list[object] = []
        """Keeps alive what `numbers` knows by identity."""
        self.homes: dict[str, int] = {}
        self.bound: set[tuple[str, str]] = set()
        self.binding: set[tuple[str, str]] = set()
        """Globals whose values are being followed right now."""
        self.statements: set[int] = set()
        """Numbers of classes made by their own statement, which binds their name."""
        self.classes: dict[str, type] = {}
        self.defining: list[type] = []
        self.later: deque[Callable[[], None]] = deque()
        self.deferred: list[Callable[[], None]] = []
        self.cells: dict[str, str] = {}

    def fork(self) -> Graph:
        """Return a graph that goes on where this one stands, with steps of its own."""
        graph = Graph(self.guest)
        graph.first = self.first + len(self.steps)
        graph.numbers, graph.kept = dict(self.numbers), list(self.kept)
        graph.homes, graph.bound = dict(self.homes), set(self.bound)
        graph.statements, graph.classes = set(self.statements), dict(self.classes)
        graph.cells = dict(self.cells)
        return graph

    def encode(self, value: object, path: str, user: str) -> bytes:
        """Encode data that may hold functions and classes, which are reached on the way."""
        try:
            return self.encode_plainly(value, path, user)
        except CannotTravel:
            raise
        except UnencodableValue as error:
            raise CannotTravel(error.path, error.reason, error.remedy or "leave it out", user) from None

    def encode_plainly(self, value: object, path: str, user: str) -> bytes:
        """Encode like `encode`, with the codec's own errors."""
        encoder = Encoder(
            class_name=lambda kind: self.class_name(kind, user),
            reference=lambda item: self.reach(item, user),
        )
        return encoder.encode(value, path)

    def class_name(self, kind: type, user: str) -> str:
        """Return the name of a class whose instances are sent, after reaching it."""
        name = f"{kind.__module__}:{kind.__qualname__}"
        if self.classes.get(name) is not kind:
            self.reach(kind, user)
            if self.classes.get(name) is not kind:
                raise CannotTravel(
                    f"class {kind.__qualname__}",
                    "another class has its name",
                    "give each class its own name",
                    user,
                )
        return name

    def add(self, step: Step, made: object = None) -> int:
        """Add a step and return its number."""
        number = self.first + len(self.steps)
        self.steps.append(step)
        if made is not None:
            self.numbers[id(made)] = number
            self.kept.append(made)
        return number

    def reach(self, value: Any, user: str, *, name: str = "") -> int | None:
        """Return the number of an object that travels as code, after adding the steps that build it.

        Returns
        -------
        int or None
            None if the object is nothing that could travel as code.
        """
        number = self.numbers.get(id(value))
        if number is not None:
            return number
        if isinstance(value, ModuleType):
            return self.module(value, user)
        if isinstance(value, FunctionType):
            return self.function(value, user, name)
        if isinstance(value, type):
            return self.class_(value, user)
        made_by = recipes.recipe_of(value)
        if made_by is not None:
            return self.call(value, made_by, user)
        found = find_import(value, name, self.guest)
        if found is not None:
            return self.add((container.IMPORT, *found), value)
        if inspect.isbuiltin(value) or inspect.ismethoddescriptor(value):
            check_origin(f"{value.__qualname__}", str(value.__module__), self.guest, user)
        return None

    def call(self, value: object, made_by: recipes.Recipe, user: str) -> int:
        """Reach an object that is made by calling something of the standard library."""
        if isinstance(made_by.callee, recipes.Recipe):
            # The decorator that `functools.lru_cache(...)` returns has no value of its own here.
            outer = object()
            self.call(outer, made_by.callee, user)
            callee: object = outer
        else:
            callee = made_by.callee
        what = f"{type(value).__qualname__}"
        data = self.encode((callee, made_by.positional, made_by.named), what, user)
        return self.add((container.CALL, data), value)

    def module(self, module: ModuleType, user: str) -> int:
        """Reach a module of the runtime."""
        name = "os.path" if module.__name__ in ("posixpath", "ntpath") else module.__name__
        check_origin(f"module {name}", name, self.guest, user)
        if origin_of(name, self.guest) is Origin.PROJECT:
            raise CannotTravel(
                f"module {name} as a value",
                "only what is used of a module travels, and here that cannot be seen",
                f"use {name}.something directly, or import the names",
                user,
            )
        return self.add((container.IMPORT, name, ""), module)

    def home(self, name: str, user: str) -> int:
        """Reach the module, empty at first, in which the user's functions and classes live."""
        number = self.homes.get(name)
        if number is not None:
            return number
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise CannotTravel(
                f"module {name}", "a module of the standard library has its name", "rename the file", user
            )
        parent = name.rpartition(".")[0]
        if parent:
            self.home(parent, user)
        number = self.add((container.MODULE, name, self.file_name(name)), sys.modules.get(name))
        self.homes[name] = number
        return number

    def file_name(self, module: str, code_file: str = "") -> str:
        """Return how tracebacks call a file: never where it lies on this machine."""
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        if not code_file or code_file == file:
            if module != "__main__" and module in sys.modules:
                return module.replace(".", "/") + ("/__init__.py" if file.endswith("__init__.py") else ".py")
            return Path(file).name if file else "<main>"
        if code_file.startswith("<") or "ipykernel" in code_file:
            return self.cells.setdefault(code_file, f"<cell {len(self.cells) + 1}>")
        return Path(code_file).name

    def function(self, function: FunctionType, user: str, name: str) -> int:
        """Reach a function written in Python."""
        code, home = function.__code__, str(function.__globals__.get("__name__"))
        qualified = function.__qualname__
        check_origin(f"function {qualified}", home, self.guest, user)
        if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            raise CannotTravel(
                f"async function {qualified}", "a unit has no event loop", "make it a plain function", user
            )
        if "<locals>" not in qualified and home == function.__module__:
            if origin_of(home, self.guest) is Origin.RUNTIME:
                if is_at(home, qualified, function, self.guest):
                    return self.add((container.IMPORT, home, qualified), function)
            elif "." in qualified:
                owner, _, path = qualified.partition(".")
                if _at(function.__globals__.get(owner), path) is function:
                    number = self.reach(function.__globals__[owner], user)
                    return self.add((container.ATTRIBUTE, number, path), function)
        try:
            piece = source.function_piece(function)
        except SourceMissing as error:
            what = "lambda" if code.co_name == "<lambda>" else f"function {qualified}"
            raise CannotTravel(what, error.reason, error.remedy, user) from None
        return self.written(function, piece, home, user)

    def written(self, function: FunctionType, piece: Piece, home: str, user: str) -> int:
        """Add a function by its source; what it uses follows."""
        code, qualified = function.__code__, function.__qualname__
        label = f"{qualified}, {Path(code.co_filename).name}:{code.co_firstlineno}"
        if origin_of(home, self.guest) is Origin.RUNTIME:
            home_number = self.reach(sys.modules[home], user)
        else:
            home_number = self.home(home, user)
        new: list[tuple[str, CellType]] = []
        cells: list[int] = []
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if id(cell) not in self.numbers:
                self.add((container.CELL,), cell)
                new.append((variable, cell))
            cells.append(self.numbers[id(cell)])
        file = self.file_name(home, code.co_filename)
        inner = (piece.code_name, file, piece.line, piece.text, code.co_freevars, tuple(cells))
        number = self.add((container.FUNCTION, home_number, function.__name__, qualified, *inner), function)

        if home in self.homes:
            self.soon(partial(self.surroundings, piece, function.__globals__, home, label, piece.uses.names))
        for variable, cell in new:
            self.soon(partial(self.fill, cell, f"variable {variable!r} of {qualified}", label))
        attributes = {key: value for key, value in vars(function).items() if key != "__wrapped__"}
        if function.__defaults__ or function.__kwdefaults__ or attributes:
            self.soon(partial(self.defaults, number, function, attributes, label))
        return number

    def fill(self, cell: CellType, what: str, user: str) -> None:
        """Add the content of a variable that an enclosing function has left."""
        try:
            content = cell.cell_contents
        except ValueError:
            return
        data = self.encode(content, what, user)
        self.add((container.FILL, self.numbers[id(cell)], data))

    def defaults(self, number: int, function: FunctionType, attributes: dict[str, Any], user: str) -> None:
        """Add the defaults and attributes of a function."""
        positional, named = function.__defaults__ or (), function.__kwdefaults__ or {}
        code = function.__code__
        parameters = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
        for name, value in (*zip(parameters, positional, strict=True), *named.items()):
            # Once for its own name in errors; what it reaches is not reached again below.
            self.encode(value, f"default of {name!r} of {function.__qualname__}", user)
        given = (function.__defaults__, function.__kwdefaults__, attributes)
        data = self.encode(given, f"attributes of {function.__qualname__}", user)
        self.add((container.DEFAULTS, number, data))

    def soon(self, action: Callable[[], None]) -> None:
        """Do something later, or now if a class is being defined whose definition may depend on it."""
        if self.defining:
            self.attempt(action)
        else:
            self.later.append(action)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something, or put it off until the class that it needs has been defined."""
        try:
            action()
        except _Deferred:
            self.deferred.append(action)

    def drain(self) -> None:
        """Do everything that was put off."""
        while self.later or self.deferred:
            if not self.later:
                self.later.extend(self.deferred)
                self.deferred.clear()
            self.attempt(self.later.popleft())

    def surroundings(
        self, piece: Piece, names: dict[str, Any], home: str, user: str, wanted: tuple[str, ...]
    ) -> None:
        """Bind the globals and imports that a piece of source uses."""
        uses = piece.uses
        for name in sorted(wanted, key=lambda one: (isinstance(names.get(one), FunctionType | type), one)):
            self.attempt(partial(self.bind, names, home, name, user))
            value = names.get(name)
            if isinstance(value, ModuleType):
                self.chains(value, name, piece, user)
        for statement in uses.imports:
            if not statement.forgiven:
                self.body_import(statement, names, piece, user)

    def bind(self, names: dict[str, Any], home: str, name: str, user: str) -> None:
        """Bind one global; what is neither bound here nor a builtin is left to fail where it is used."""
        if name not in names or name in GIVEN:
            return
        value = names[name]
        if (home, name) in self.bound:
            if (home, name) in self.binding:
                self.empty(value, home, name, user)
            return
        self.bound.add((home, name))
        self.binding.add((home, name))
        try:
            number: int | None = None
            if isinstance(value, ModuleType) and origin_of(value.__name__, self.guest) is Origin.PROJECT:
                self.home(value.__name__, user)
            elif type(value) not in WRITERS:
                number = self.imported(value, name, names) or self.named(value, name, user)
            if number in self.statements and isinstance(value, type) and _names(value) == (home, name):
                return
            data = self.encode(value, f"global {name!r}", user)
        except CannotTravel:
            self.bound.discard((home, name))
            raise
        except _Deferred:
            self.bound.discard((home, name))
            self.empty(value, home, name, user)
            raise
        finally:
            self.binding.discard((home, name))
        self.add((container.GLOBAL, self.home(home, user), name, data))

    def empty(self, value: object, home: str, name: str, user: str) -> None:
        """Bind an empty container until its content can be built: a registry that classes enter."""
        if type(value) in (dict, list, set):
            data = self.encode(type(value)(), name, user)
            self.add((container.GLOBAL, self.home(home, user), name, data))

    def named(self, value: object, name: str, user: str) -> int | None:
        """Reach an object that is a global, if it is of a kind that travels as code."""
        if isinstance(value, FunctionType | type) or not is_data(value):
            return self.reach(value, user, name=name)
        return None

    def imported(self, value: object, name: str, names: dict[str, Any]) -> int | None:
        """Reach what a ``from`` import at the top of the user's file has taken from the runtime."""
        if id(value) in self.numbers:
            return self.numbers[id(value)]
        file = names.get("__file__")
        if isinstance(file, str):
            found = source.imported_names(file, names).get(name)
            if found is not None and is_at(*found, value, self.guest) and not is_data(value):
                number = self.add((container.IMPORT, *found), value)
                if isinstance(value, type):
                    self.classes[f"{value.__module__}:{value.__qualname__}"] = value
                return number
        return None

    def chains(self, module: ModuleType, name: str, piece: Piece, user: str) -> None:
        """Reach what is used of a module: submodules of the runtime, names of the user's own."""
        own = origin_of(module.__name__, self.guest) is Origin.PROJECT
        if own and name in piece.uses.bare:
            raise CannotTravel(
                f"module {module.__name__} as a value",
                "only what is used of a module travels, and here that cannot be seen",
                f"use {name}.something directly, or import the names",
                user,
            )
        for chain in piece.uses.chains.get(name, ()):
            holder = module
            for part in chain:
                value = getattr(holder, part, None)
                if origin_of(holder.__name__, self.guest) is Origin.PROJECT:
                    self.home(holder.__name__, user)
                    self.attempt(partial(self.bind, vars(holder), holder.__name__, part, user))
                elif isinstance(value, ModuleType) and value.__name__ == f"{holder.__name__}.{part}":
                    self.reach(value, user)
                if not isinstance(value, ModuleType):
                    break
                holder = value

    def body_import(
        self, statement: source.BodyImport, names: dict[str, Any], piece: Piece, user: str
    ) -> None:
        """Reach what an import statement inside a function takes of the user's own modules."""
        written = "." * statement.level + statement.module
        try:
            package = names.get("__package__") or ""
            full = importlib.util.resolve_name(written, package) if statement.level else written
            module = importlib.import_module(full)
        except ImportError as error:
            raise CannotTravel(f"import of {written}", str(error), "import what exists", user) from None
        check_origin(f"import of {full}", full, self.guest, user)
        if origin_of(full, self.guest) is not Origin.PROJECT:
            return
        self.home(full, user)
        if statement.names is not None:
            for name in statement.names:
                if not hasattr(module, name):
                    with suppress(ImportError):
                        importlib.import_module(f"{full}.{name}")
                self.attempt(partial(self.bind, vars(module), full, name, user))
                value = getattr(module, name, None)
                if isinstance(value, ModuleType):
                    self.chains(value, name, piece, user)
        elif statement.bound == full.partition(".")[0]:
            self.chains(sys.modules[statement.bound], statement.bound, piece, user)
        else:
            self.chains(module, statement.bound, piece, user)

    def class_(self, kind: type, user: str) -> int:
        """Reach a class."""
        module, name = _names(kind)
        origin = origin_of(module, self.guest)
        check_origin(f"class {name}", module, self.guest, user)
        if origin is Origin.RUNTIME:
            found = find_import(kind, name, self.guest)
            if found is None:
                raise CannotTravel(f"class {name}", f"it is not a name of {module}", "define your own", user)
            if not is_ordinary(kind):
                self.classes[f"{module}:{name}"] = kind
            return self.add((container.IMPORT, *found), kind)
        if "<locals>" in name:
            raise CannotTravel(
                f"class {name}",
                "it is defined inside a function",
                "define it at the top level of a module",
                user,
            )
        names = source.globals_of(kind)
        if "." in name:
            owner, _, path = name.partition(".")
            if _at(names.get(owner), path) is not kind:
                raise CannotTravel(
                    f"class {name}", "its name leads elsewhere", "define it at top level", user
                )
            outer = self.reach(names[owner], user)
            self.classes[f"{module}:{name}"] = kind
            return self.add((container.ATTRIBUTE, outer, path), kind)
        if kind in self.defining:
            raise _Deferred
        if not self.defining:
            self.drain()
            if id(kind) in self.numbers:
                return self.numbers[id(kind)]
        made_by = recipes.class_recipe(kind)
        try:
            piece = source.class_piece(kind)
        except SourceMissing as error:
            if made_by is not None:
                self.classes[f"{module}:{name}"] = kind
                return self.call(kind, made_by, user)
            raise CannotTravel(f"class {name}", error.reason, error.remedy, user) from None
        return self.defined(kind, piece, names, user)

    def defined(self, kind: type, piece: Piece, names: dict[str, Any], user: str) -> int:
        """Add a class by its source, after what its definition uses and before what its methods use."""
        module, name = _names(kind)
        label = f"class {name}, {self.file_name(module)}:{piece.line}"
        home = self.home(module, user)
        special = [one for one in piece.uses.annotated if _marks_fields(names.get(one))]
        at_once = (*piece.uses.at_once, *special)
        self.defining.append(kind)
        try:
            self.surroundings(piece, names, module, label, tuple(dict.fromkeys(at_once)))
            needed = [names.get(one) for one in at_once if one != name]
            if len(self.defining) > 1 and any(
                isinstance(one, type) and id(one) not in self.numbers for one in needed
            ):
                raise _Deferred
        finally:
            self.defining.pop()
        file = self.file_name(module, _class_file(kind))
        number = self.add((container.CLASS, home, name, file, piece.line, piece.text), kind)
        self.statements.add(number)
        self.bound.add((module, name))
        self.classes[f"{module}:{name}"] = kind
        self.soon(partial(self.surroundings, piece, names, module, label, piece.uses.names))
        return number


def _names(kind: type) -> tuple[str, str]:
    return kind.__module__, kind.__qualname__


def _class_file(kind: type) -> str:
    """Return the file of a class of a notebook, which only its methods know."""
    if getattr(sys.modules.get(kind.__module__), "__file__", None):
        return ""
    files = [
        member.__code__.co_filename for member in vars(kind).values() if isinstance(member, FunctionType)
    ]
    return next((file for file in files if file != "<string>"), "")


def _marks_fields(value: object) -> bool:
    """Whether an annotation may mean more than a type to `dataclasses`, such as ``ClassVar``."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return name in ("typing", "dataclasses")


def _at(value: object, path: str) -> object:
    for part in path.split("."):
        value = getattr(value, part, None)
    return value
