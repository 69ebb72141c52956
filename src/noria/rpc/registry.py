"""The methods of the server: registered once with their typed signature, looked up per call."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Raw

from noria.rpc.errors import ParamError, RpcError, invalid_params
from noria.rpc.params import Codec, Schema

_NULL = Raw(b"null")

Handler = Callable[..., Any]
"""``(context, *arguments) -> result | Awaitable[result]``; a `msgspec.Raw` result is sent as it is."""
BatchHandler = Callable[[Any, Sequence[tuple[Any, ...]]], Awaitable[Sequence[Any]]]
"""``(context, arguments of each call) -> a result or `RpcError` for each``."""


@dataclass(frozen=True, slots=True)
class Param:
    """One positional parameter."""

    name: str
    codec: Codec
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Method:
    """A method and everything that is known about it."""

    name: str
    handler: Handler
    is_async: bool
    params: tuple[Param, ...]
    result: Schema
    summary: str
    batch: BatchHandler | None
    _decoder: msgspec.json.Decoder[Any]
    _required: int
    _steps: tuple[tuple[Callable[[Any], Any] | None, bool, Any], ...]

    def bind(self, params: Raw) -> tuple[Any, ...]:
        """Decode the arguments of one call.

        Raises
        ------
        RpcError
            -32602, in geth's words, naming the argument.
        """
        if not self._required and bytes(params) in (b"", b"null", b"[]"):
            return tuple(param.default for param in self.params)
        try:
            wires = msgspec.structs.astuple(self._decoder.decode(params))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise self._explain(bytes(params)) from None
        values = []
        for wire, (convert, required, default) in zip(wires, self._steps, strict=True):
            if wire is None:
                values.append(default)
                continue
            try:
                value = wire if convert is None else convert(wire)
            except ParamError as error:
                raise invalid_params(f"invalid argument {len(values)}: {error}") from None
            if value is None:
                if required:
                    raise invalid_params(f"missing value for required argument {len(values)}")
                value = default
            values.append(value)
        return tuple(values)

    def _explain(self, text: bytes) -> RpcError:
        """Find which argument the fast decoder stumbled over."""
        try:
            given = msgspec.json.decode(text or b"[]", type=list[Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return invalid_params("non-array args")
        if len(given) > len(self.params):
            return invalid_params(f"too many arguments, want at most {len(self.params)}")
        for place, param in enumerate(self.params):
            if place >= len(given) or bytes(given[place]) == b"null":
                if param.required:
                    return invalid_params(f"missing value for required argument {place}")
                continue
            try:
                msgspec.json.decode(given[place], type=param.codec.wire)
            except msgspec.MsgspecError as error:
                return invalid_params(f"invalid argument {place}: {_lower_first(str(error))}")
            except UnicodeDecodeError:
                return invalid_params(f"invalid argument {place}: text is not UTF-8")
        return invalid_params("invalid arguments")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


@dataclass(slots=True)
class Registry:
    """Methods by name."""

    methods: dict[str, Method] = field(default_factory=dict)

    def method(
        self, name: str, result: Schema, *, batch: BatchHandler | None = None
    ) -> Callable[[Handler], Handler]:
        """Register the decorated function as ``name``.

        Its first parameter is the call's context; the others are annotated with types of `noria.rpc.params`.
        The first line of its docstring is the summary. ``batch``, if given, answers together a run of
        consecutive calls of this method in one batch.
        """

        def register(handler: Handler) -> Handler:
            if name in self.methods:
                raise ValueError(f"method {name} is registered twice")
            self.methods[name] = _method(name, handler, result, batch)
            return handler

        return register

    def include(self, other: Registry) -> None:
        """Take over all methods of another registry."""
        for method in other:
            if method.name in self.methods:
                raise ValueError(f"method {method.name} is registered twice")
            self.methods[method.name] = method

    def get(self, name: str) -> Method | None:
        """Return the method of this name, if there is one."""
        return self.methods.get(name)

    def __iter__(self) -> Iterator[Method]:
        return iter(self.methods.values())


def _method(name: str, handler: Handler, result: Schema, batch: BatchHandler | None) -> Method:
    params = _params(handler)
    # One struct per method: msgspec then checks the number and kinds of arguments in a single pass.
    wire_fields = [_wire_field(param) for param in params]
    wire = msgspec.defstruct(f"{name}_params", wire_fields, array_like=True, forbid_unknown_fields=True)
    return Method(
        name=name,
        handler=handler,
        is_async=inspect.iscoroutinefunction(handler),
        params=params,
        result=result,
        summary=(inspect.getdoc(handler) or "").partition("\n")[0],
        batch=batch,
        _decoder=msgspec.json.Decoder(wire),
        _required=sum(param.required for param in params),
        _steps=tuple((param.codec.convert, param.required, param.default) for param in params),
    )


def _params(handler: Handler) -> tuple[Param, ...]:
    hints = get_type_hints(handler, include_extras=True)
    found = []
    for parameter in list(inspect.signature(handler).parameters.values())[1:]:
        annotation = hints[parameter.name]
        if get_origin(annotation) is not Annotated or not isinstance(get_args(annotation)[1], Codec):
            raise TypeError(f"{handler.__qualname__}: parameter {parameter.name} has no argument type")
        required = parameter.default is inspect.Parameter.empty
        default = None if required else parameter.default
        found.append(Param(parameter.name, get_args(annotation)[1], required, default))
    return tuple(found)


def _wire_field(param: Param) -> tuple[str, Any] | tuple[str, Any, Any]:
    wire = param.codec.wire
    if param.required:
        return (param.name, wire)
    return (param.name, Raw, _NULL) if wire is Raw else (param.name, wire | None, None)
