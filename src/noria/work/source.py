"""The source of one function or class: found, cut out precisely, and read for the names that it uses.

`inspect.getsource` returns whole lines and follows decorators; a piece here is exactly the function that the
code object was compiled from, at its place in its file. Defaults and decorators of functions are left out:
their values travel instead of their text.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any, Final

from noria.work.guest.loader import ANNOTATIONS_AS_TEXT, find_code

FUNCTION_CODE: Final = 0x3
"""Flags of code that belongs to a function: optimised, new locals."""

GLOBAL_OPERATIONS: Final = frozenset(
    {"LOAD_NAME", "LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS"}
)
COMPREHENSIONS: Final = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
FORGIVING: Final = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
MAX_CACHED: Final = 1024

Def = ast.FunctionDef | ast.AsyncFunctionDef


class SourceMissing(Exception):
    """There is no source to send, or it is not that of the function; says why and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class BodyImport:
    """An import statement inside a function or class."""

    module: str
    level: int
    names: tuple[str, ...] | None
    """Names taken by ``from``; none for a plain ``import``."""
    bound: str
    """The name that a plain ``import`` binds."""
    forgiven: bool
    """Whether a failure of the import is caught."""


@dataclass(frozen=True, slots=True)
class Uses:
    """What a piece of source needs of its surroundings."""

    names: tuple[str, ...]
    """Global names that are used at some time."""
    at_once: tuple[str, ...]
    """Those of them that are used while a class is being defined."""
    chains: dict[str, tuple[tuple[str, ...], ...]]
    """Per name: the attribute chains that follow it."""
    bare: frozenset[str]
    """Names that are used without an attribute."""
    annotated: tuple[str, ...]
    """First names in the annotations of a class's fields."""
    imports: tuple[BodyImport, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The source of one function or class, ready to be compiled elsewhere."""

    text: str
    line: int
    """Line at which `text` begins in its file."""
    code_name: str
    uses: Uses = field(compare=False)


@dataclass(frozen=True, slots=True)
class _File:
    text: str
    data: bytes
    starts: tuple[int, ...]
    functions: dict[tuple[int, str], list[Def]]
    lambdas: dict[int, list[ast.Lambda]]
    classes: dict[str, list[ast.ClassDef]]
    imports: dict[str, tuple[str, str]]
    codes: dict[tuple[int, str], list[CodeType]] = field(default_factory=dict)
    pieces: dict[int, Piece] = field(default_factory=dict)

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column


_files: dict[str, _File] = {}
_pieces: dict[int, tuple[CodeType, Piece]] = {}


def function_piece(function: FunctionType) -> Piece:
    """Cut out the source of a function.

    Raises
    ------
    SourceMissing
        If there is none, it cannot be told from its neighbours, or it has changed since.
    """
    code = function.__code__
    known = _pieces.get(id(code))
    if known is not None and known[0] is code:
        return known[1]
    try:
        piece = _function_piece(code, function.__globals__)
    except SourceMissing:
        # The file may have been edited and its module loaded again since it was last read.
        linecache.checkcache(code.co_filename)
        piece = _function_piece(code, function.__globals__)
    if len(_pieces) >= MAX_CACHED:
        _pieces.clear()
    _pieces[id(code)] = (code, piece)
    return piece


def class_piece(kind: type) -> Piece:
    """Cut out the source of a class that is defined at the top level of a module.

    Raises
    ------
    SourceMissing
        If there is none.
    """
    name = kind.__qualname__
    for filename in _class_files(kind):
        linecache.checkcache(filename)
        file = _read(filename, globals_of(kind))
        nodes = file.classes.get(name) if file else None
        if not file or not nodes:
            continue
        node = nodes[-1] if len(nodes) == 1 else _matching_class(kind, nodes)
        if node.lineno in file.pieces:
            return file.pieces[node.lineno]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        indent = node.col_offset
        start = file.offset(first, 0)
        text = file.data[start : file.offset(node.end_lineno or 0, node.end_col_offset or 0)].decode()
        if indent:
            first, text = first - 1, "if 1:\n" + text
        text += "\n"
        compiled = _compile(text, ANNOTATIONS_AS_TEXT)
        piece = file.pieces[node.lineno] = Piece(text, first, name, _uses(node, compiled, is_class=True))
        return piece
    raise SourceMissing(
        f"the source of class {name} cannot be found",
        "define it with a class statement in a file or notebook",
    )


def globals_of(kind: type) -> dict[str, Any]:
    """Return the globals of the module in which a class was defined, even if it is no longer loaded.

    Parameters
    ----------
    kind
        A class that is defined at the top level of a module.

    Returns
    -------
    dict
        Empty if they cannot be found.
    """
    module = sys.modules.get(kind.__module__)
    if module is not None:
        return vars(module)
    for member in vars(kind).values():
        if isinstance(member, FunctionType) and member.__globals__.get("__name__") == kind.__module__:
            return member.__globals__
    return {}


def imported_names(filename: str, module_globals: dict[str, object]) -> dict[str, tuple[str, str]]:
    """Return what the ``from`` imports at a file's top level bind: name to module and attribute."""
    file = _read(filename, module_globals)
    return file.imports if file else {}


def _read(filename: str, module_globals: dict[str, object]) -> _File | None:
    lines = linecache.getlines(filename, module_globals)
    if not lines:
        return None
    text = "".join(lines)
    known = _files.get(filename)
    if known is not None and known.text == text:
        return known
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    data = text.encode("utf-8", "surrogatepass")
    starts = [0]
    for line in data.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    file = _File(text, data, tuple(starts), {}, {}, {}, {})
    for node in ast.walk(tree):
        if isinstance(node, Def):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            file.functions.setdefault((first, node.name), []).append(node)
        elif isinstance(node, ast.Lambda):
            file.lambdas.setdefault(node.lineno, []).append(node)
    for statement in _top_level(tree.body):
        if isinstance(statement, ast.ClassDef):
            file.classes.setdefault(statement.name, []).append(statement)
        elif isinstance(statement, ast.ImportFrom) and not statement.level and statement.module:
            for alias in statement.names:
                file.imports[alias.asname or alias.name] = (statement.module, alias.name)
    if len(_files) >= MAX_CACHED:
        _files.clear()
    _files[filename] = file
    return file


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Give the statements that bind names of the module, those under ``if`` and ``try`` included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            yield from _top_level(statement.body)
            yield from _top_level(getattr(statement, "orelse", []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level(handler.body)


def _class_files(kind: type) -> list[str]:
    module = sys.modules.get(kind.__module__)
    found = [getattr(module, "__file__", None) or ""]
    found += [
        member.__code__.co_filename for member in vars(kind).values() if isinstance(member, FunctionType)
    ]
    if not found[0]:
        # A notebook or an interactive session: every input is a file of its own, the latest counts.
        found += [name for name in reversed(linecache.cache) if name.startswith("<") or "ipykernel" in name]
    return [name for name in dict.fromkeys(found) if name]


def _matching_class(kind: type, nodes: list[ast.ClassDef]) -> ast.ClassDef:
    """Tell definitions of one name apart by where the methods of `kind` lie."""
    lines = [m.__code__.co_firstlineno for m in vars(kind).values() if isinstance(m, FunctionType)]
    for node in reversed(nodes):
        if any(node.lineno <= line <= (node.end_lineno or 0) for line in lines):
            return node
    return nodes[-1]


def _function_piece(code: CodeType, module_globals: dict[str, object]) -> Piece:
    file = _read(code.co_filename, module_globals)
    if file is None:
        raise SourceMissing(
            "its source is neither in a file nor in a notebook (made by exec or eval, or typed at a prompt)",
            "define it in a file or a notebook",
        )
    node = _find(code, file)
    if isinstance(node, ast.Lambda):
        text, line = _lambda_text(code, node, file), node.lineno
    else:
        text, line = _def_text(code, node, file)
    sent: CodeType | None = find_code(_compile(text, ANNOTATIONS_AS_TEXT), code.co_name)
    assert sent is not None, "the text of a function holds the function"
    rewritten = any(isinstance(inner, ast.Assert) for inner in ast.walk(node))  # by a test runner, perhaps
    if not rewritten and not any(_same(code, one) for one in _codes(file, code)):
        raise SourceMissing(
            "its source is not the code in memory: the file was changed after it was loaded",
            "load the module again",
        )
    if not rewritten and not set(sent.co_names) <= set(code.co_names):
        raise SourceMissing(
            "it lies in a method and uses private names of the class (__name)", "move it out of the class"
        )
    return Piece(text, line, code.co_name, _uses(node, sent, is_class=False))


def _codes(file: _File, code: CodeType) -> list[CodeType]:
    """Return the codes that the file as it is now holds where `code` was."""
    if not file.codes:
        # Cells of a notebook may wait at top level; in functions the flag changes nothing.
        flags = code.co_flags & ANNOTATIONS_AS_TEXT | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        waiting = [_compile(file.text, flags)]
        while waiting:
            one = waiting.pop()
            file.codes.setdefault((one.co_firstlineno, one.co_name), []).append(one)
            waiting += [constant for constant in one.co_consts if isinstance(constant, CodeType)]
    return file.codes.get((code.co_firstlineno, code.co_name), [])


def _find(code: CodeType, file: _File) -> Def | ast.Lambda:
    changed = SourceMissing(
        f"line {code.co_firstlineno} of its file does not hold it: the file was changed after it was loaded",
        "load the module again",
    )
    if code.co_name != "<lambda>":
        nodes = file.functions.get((code.co_firstlineno, code.co_name), [])
        if len(nodes) != 1:
            raise changed
        return nodes[0]
    lambdas = file.lambdas.get(code.co_firstlineno, [])
    if not lambdas:
        raise changed
    places = set(code.co_positions())
    matching = [
        node
        for node in lambdas
        if (node.body.lineno, node.body.end_lineno, node.body.col_offset, node.body.end_col_offset) in places
    ]
    if len(lambdas) == 1:
        return lambdas[0]
    if len(matching) != 1:
        raise SourceMissing("several lambdas begin on its line", "give each lambda its own line, or use def")
    return matching[0]


def _without_defaults(node: Def | ast.Lambda, file: _File, start: int, end: int) -> str:
    """Return the source of `node` with ``None`` for every default; lines stay where they are."""
    pieces: list[bytes] = []
    place = start
    defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    for default in sorted(defaults, key=lambda default: (default.lineno, default.col_offset)):
        first = file.offset(default.lineno, default.col_offset)
        last = file.offset(default.end_lineno or 0, default.end_col_offset or 0)
        pieces += [file.data[place:first], b"None", b"\n" * file.data.count(b"\n", first, last)]
        place = last
    pieces.append(file.data[place:end])
    return b"".join(pieces).decode("utf-8", "surrogatepass")


def _def_text(code: CodeType, node: Def, file: _File) -> tuple[str, int]:
    start = file.offset(node.lineno, 0)
    end = file.offset(node.end_lineno or 0, node.end_col_offset or 0)
    text = _without_defaults(node, file, start, end) + "\n"
    if code.co_freevars:
        indent = "" if node.col_offset else " "
        return f"def __noria_around__({', '.join(code.co_freevars)}):\n{indent}{text}", max(
            node.lineno - 1, 1
        )
    if node.col_offset:
        return f"if 1:\n{text}", max(node.lineno - 1, 1)
    return text, node.lineno


def _lambda_text(code: CodeType, node: ast.Lambda, file: _File) -> str:
    start = file.offset(node.lineno, node.col_offset)
    end = file.offset(node.end_lineno or 0, node.end_col_offset or 0)
    text = f"({_without_defaults(node, file, start, end)})\n"
    if code.co_freevars:
        return f"def __noria_around__({', '.join(code.co_freevars)}): {text}"
    return text


def _compile(text: str, flags: int) -> Any:
    try:
        return compile(text, "<piece>", "exec", flags=flags, dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise SourceMissing(
            f"its source does not stand alone: {error}", "define it with def at top level"
        ) from None


def _same(one: CodeType, other: CodeType) -> bool:
    """Whether two codes do the same, wherever they lie."""
    if (one.co_code, one.co_names, one.co_varnames, one.co_freevars) != (
        other.co_code,
        other.co_names,
        other.co_varnames,
        other.co_freevars,
    ) or len(one.co_consts) != len(other.co_consts):
        return False
    for mine, its in zip(one.co_consts, other.co_consts, strict=True):
        if isinstance(mine, CodeType) and isinstance(its, CodeType):
            if not _same(mine, its):
                return False
        # Text tells 0.0 from -0.0, and equality sees through the changing order of a frozenset.
        elif type(mine) is not type(its) or (repr(mine) != repr(its) and not isinstance(mine, frozenset)):
            return False
    return True


def _uses(node: Def | ast.Lambda | ast.ClassDef, code: CodeType, *, is_class: bool) -> Uses:
    names, at_once = set[str](), set[str]()
    _names(code, is_class, names, at_once)
    chains: dict[str, set[tuple[str, ...]]] = {}
    bare, imports = set[str](), list[BodyImport]()
    body: list[ast.AST] = [node] if isinstance(node, ast.ClassDef) else []
    if isinstance(node, ast.Lambda):
        body = [node.body]
    elif isinstance(node, Def):
        body = list(node.body)
    for part in body:
        _walk(part, chains, bare, imports, forgiven=False)
    annotated = set[str]()
    for statement in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(statement, ast.AnnAssign):
            annotated |= {inner.id for inner in ast.walk(statement.annotation) if isinstance(inner, ast.Name)}
    return Uses(
        tuple(sorted(names)),
        tuple(sorted(at_once)),
        {name: tuple(sorted(found)) for name, found in chains.items()},
        frozenset(bare),
        tuple(sorted(annotated)),
        tuple(imports),
    )


def _names(code: CodeType, now: bool, names: set[str], at_once: set[str]) -> None:
    """Collect global names; `now` says whether the code runs while a class is defined."""
    stored = set[str]()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME":
            stored.add(instruction.argval)
        elif instruction.opname in GLOBAL_OPERATIONS and instruction.argval not in stored:
            names.add(instruction.argval)
            if now:
                at_once.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            runs = now and (
                not constant.co_flags & FUNCTION_CODE
                or constant.co_name in COMPREHENSIONS
                or constant.co_name.startswith("<generic parameters")
            )
            _names(constant, runs, names, at_once)


def _walk(
    node: ast.AST,
    chains: dict[str, set[tuple[str, ...]]],
    bare: set[str],
    imports: list[BodyImport],
    forgiven: bool,
) -> None:
    """Collect attribute chains and import statements; annotations are never evaluated and left out."""
    if isinstance(node, ast.Attribute):
        attributes: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            chains.setdefault(inner.id, set()).add(tuple(reversed(attributes)))
        else:
            _walk(inner, chains, bare, imports, forgiven)
        return
    if isinstance(node, ast.Name):
        bare.add(node.id)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            imports.append(BodyImport(alias.name, 0, None, bound, forgiven))
    elif isinstance(node, ast.ImportFrom):
        names = tuple(alias.name for alias in node.names)
        imports.append(BodyImport(node.module or "", node.level, names, "", forgiven))
    elif isinstance(node, ast.Try):
        caught = any(_forgives(handler.type) for handler in node.handlers)
        for statement in node.body:
            _walk(statement, chains, bare, imports, forgiven or caught)
        for other in (*node.handlers, *node.orelse, *node.finalbody):
            _walk(other, chains, bare, imports, forgiven)
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else (value,):
            if isinstance(child, ast.AST):
                _walk(child, chains, bare, imports, forgiven)


def _forgives(kind: ast.expr | None) -> bool:
    return kind is None or any(isinstance(node, ast.Name) and node.id in FORGIVING for node in ast.walk(kind))
