"""Runs a whole script inside the Python runtime. Only the text of `call` travels: it imports for itself."""

from typing import Any


def call(
    sources: dict[str, tuple[str, str]],
    script: str,
    function: str,
    positional: list[Any],
    named: dict[str, Any],
) -> str:
    """Run a script, call one of its functions, and return the result as JSON text.

    Parameters
    ----------
    sources
        Source text of the script and of the modules beside it, by full name: (file, text).
    script, function
        Full name of the script's module, and the name of the function in it.
    positional, named
        Arguments.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        If JSON has no form for the result.
    """
    import dataclasses
    import datetime
    import decimal
    import enum
    import fractions
    import json
    import linecache
    import sys
    import types
    import uuid
    from importlib.machinery import ModuleSpec

    class Sources:
        """Imports the modules that came with the script, when the script imports them."""

        def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
            if name not in sources:
                return None
            file = sources[name][0]
            return ModuleSpec(name, self, origin=file, is_package=file.endswith("__init__.py"))  # type: ignore[arg-type]

        def create_module(self, spec: ModuleSpec) -> None:
            return None

        def exec_module(self, module: types.ModuleType) -> None:
            file, text = sources[module.__name__]
            module.__file__ = file
            exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)

    def plain(value: object) -> object:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if isinstance(value, set | frozenset):
            return sorted(value)
        if isinstance(value, enum.Enum):
            return value.value
        if isinstance(value, decimal.Decimal | fractions.Fraction | uuid.UUID):
            return str(value)
        if isinstance(value, datetime.date | datetime.time):
            return value.isoformat()
        raise TypeError(
            f"JSON has no form for {type(value).__name__}: return numbers, text, lists or dictionaries"
        )

    # Tracebacks leave out the frames of the package that runs this function; so they begin with the script.
    globals()["__package__"] = sys._getframe(1).f_globals.get("__package__")
    for file, text in sources.values():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.meta_path.insert(0, Sources())
    module = types.ModuleType(script)
    sys.modules[script] = module
    module.__file__, text = sources[script]
    exec(compile(text, module.__file__, "exec", dont_inherit=True), module.__dict__)
    if function not in module.__dict__:
        raise NameError(f"{module.__file__} defines no {function} when it runs")
    result = module.__dict__[function](*positional, **named)
    try:
        return json.dumps(result, default=plain, allow_nan=False)
    except ValueError as error:
        if "JSON compliant" not in str(error):
            raise
        raise ValueError(
            "JSON has no form for NaN and infinity: return None or text in their place"
        ) from None
