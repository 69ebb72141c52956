"""From the bytes of a request to the bytes of its answer: parsing, batches, limits, errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from msgspec import Raw

from noria._core import InvalidRequest, InvalidTransaction, NoriaError, StoreError, UnknownBlock
from noria.chain.errors import ChainStopped, InvalidTimestamp
from noria.execution.rejections import RejectedTransaction
from noria.rpc import errors
from noria.rpc.errors import RpcError
from noria.rpc.registry import Method, Registry
from noria.rpc.shape import MAX_VALUES, has_too_many_values, is_deep, is_simple

_log = structlog.get_logger(__name__)

_NULL: Final = Raw(b"null")
_TURN_SECONDS: Final = 0.005
_PARSE_FAILURES: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Request(msgspec.Struct, frozen=True):
    """A request object; ``id`` and ``params`` keep their JSON text."""

    method: str
    jsonrpc: str = ""
    params: Raw = Raw(b"")
    id: Raw = Raw(b"")


class _Success(msgspec.Struct, frozen=True):
    jsonrpc: str
    id: Raw
    result: Any


class _ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    code: int
    message: str
    data: Any = None


class _Failure(msgspec.Struct, frozen=True):
    jsonrpc: str
    id: Raw
    error: _ErrorBody


class _Call(msgspec.Struct, frozen=True):
    """A well-formed request: a known method and its arguments. ``id`` is ``None`` for a notification."""

    id: Raw | None
    method: Method
    arguments: tuple[Any, ...]


class _Refused(msgspec.Struct, frozen=True):
    """A request that is answered with an error without calling anything."""

    id: Raw | None
    error: RpcError


_encoder: Final = msgspec.json.Encoder()
_one_or_many: Final = msgspec.json.Decoder(Request | list[Raw])
_one: Final = msgspec.json.Decoder(Request)
_id_only: Final = msgspec.json.Decoder(dict[str, Raw])


def failure(error: RpcError, request_id: Raw = _NULL) -> bytes:
    """Encode an error answer."""
    body = _ErrorBody(error.code, error.message, error.data)
    return _encoder.encode(_Failure("2.0", request_id, body))


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Answers requests from a registry within the limits."""

    registry: Registry
    max_batch: int
    max_response_bytes: int
    request_seconds: float

    async def answer(self, body: bytes | str, context: Any) -> bytes | None:
        """Answer one request or batch; ``None`` when it held notifications only. Raises no `Exception`."""
        if has_too_many_values(body):
            return failure(errors.invalid_request(f"request too large: at most about {MAX_VALUES} values"))
        if not is_simple(body) and await asyncio.to_thread(is_deep, body):
            return failure(errors.parse_error("nested too deeply"))
        try:
            parsed = _one_or_many.decode(body)
        except msgspec.ValidationError:
            return failure(*_explain(body))
        except _PARSE_FAILURES as error:
            return failure(errors.parse_error(_parse_reason(error)))
        if isinstance(parsed, Request):
            return await self._single(self._prepare(parsed), context)
        if not parsed:
            return failure(errors.invalid_request("empty batch"))
        if len(parsed) > self.max_batch:
            return self._batch_too_large(parsed)
        return await self._batch(parsed, context)

    # -- one request

    def _prepare(self, request: Request) -> _Call | _Refused:
        text = bytes(request.id)
        request_id = request.id if text else None
        if text and not _valid_id(text):
            return _Refused(
                _NULL, errors.invalid_request("invalid request: id must be a string, number or null")
            )
        if request.jsonrpc != "2.0":
            return _Refused(
                request_id or _NULL, errors.invalid_request('invalid request: jsonrpc must be "2.0"')
            )
        method = self.registry.get(request.method)
        if method is None:
            return _Refused(request_id, errors.method_not_found(request.method))
        try:
            return _Call(request_id, method, method.bind(request.params))
        except RpcError as error:
            return _Refused(request_id, error)
        except RecursionError:
            return _Refused(request_id, errors.invalid_params("arguments are nested too deeply"))

    async def _single(self, call: _Call | _Refused, context: Any) -> bytes | None:
        if isinstance(call, _Refused):
            return None if call.id is None else failure(call.error, call.id)
        method = call.method
        try:
            if method.is_async:
                async with asyncio.timeout(self.request_seconds):
                    result = await method.handler(context, *call.arguments)
            else:
                result = method.handler(context, *call.arguments)
        except Exception as error:
            result = rpc_error(error, method.name)
        return self._encode(call, result)

    def _encode(self, call: _Call, result: Any) -> bytes | None:
        if call.id is None:
            return None
        if isinstance(result, RpcError):
            return failure(result, call.id)
        try:
            answer = _encoder.encode(_Success("2.0", call.id, result))
        except Exception as error:
            return failure(rpc_error(error, call.method.name), call.id)
        if len(answer) > self.max_response_bytes:
            return failure(errors.response_too_large(), call.id)
        return answer

    # -- batches

    async def _batch(self, items: Sequence[Raw], context: Any) -> bytes | None:
        calls = [self._prepare_item(item) for item in items]
        answers: list[bytes] = []
        size, place = 0, 0
        let_others_run_at = time.monotonic() + _TURN_SECONDS
        try:
            async with asyncio.timeout(self.request_seconds):
                while place < len(calls):
                    run = _run_length(calls, place)
                    for answer in await self._run(calls[place : place + run], context):
                        if answer is not None:
                            answers.append(answer)
                            size += len(answer) + 1
                    place += run
                    if size > self.max_response_bytes:
                        # What was too much is dropped, so that the answer as a whole stays below the limit.
                        while answers and size > self.max_response_bytes:
                            size -= len(answers.pop()) + 1
                        return self._cut_short(calls, answers, errors.response_too_large())
                    if time.monotonic() > let_others_run_at:
                        # Quick calls never wait for anything; many of them must not hold the loop together.
                        await asyncio.sleep(0)
                        let_others_run_at = time.monotonic() + _TURN_SECONDS
        except TimeoutError:
            return self._cut_short(calls, answers, errors.timed_out())
        return b"[" + b",".join(answers) + b"]" if answers else None

    def _prepare_item(self, item: Raw) -> _Call | _Refused:
        try:
            return self._prepare(_one.decode(item))
        except msgspec.ValidationError:
            error, request_id = _explain(bytes(item))
            return _Refused(request_id, error)
        except _PARSE_FAILURES as error:
            return _Refused(_NULL, errors.parse_error(_parse_reason(error)))

    async def _run(self, calls: Sequence[_Call | _Refused], context: Any) -> list[bytes | None]:
        """Answer consecutive calls: one, or several of one method that has a batch variant."""
        first = calls[0]
        if isinstance(first, _Refused) or first.method.batch is None:
            return [await self._single(first, context)]
        together = [call for call in calls if isinstance(call, _Call)]
        try:
            results = await first.method.batch(context, [call.arguments for call in together])
        except TimeoutError:
            raise
        except Exception as error:
            results = [rpc_error(error, first.method.name)] * len(together)
        return [self._encode(call, result) for call, result in zip(together, results, strict=True)]

    def _cut_short(
        self, calls: Sequence[_Call | _Refused], done: list[bytes], error: RpcError
    ) -> bytes | None:
        """Answer what is left of a batch with one error each."""
        wanted = [call.id for call in calls if call.id is not None]
        answers = done + [failure(error, request_id) for request_id in wanted[len(done) :]]
        return b"[" + b",".join(answers) + b"]" if answers else None

    def _batch_too_large(self, items: Sequence[Raw]) -> bytes:
        # As geth: one answer, in a list, with the id of the first call that has one.
        error = errors.invalid_request(f"batch too large: {len(items)} requests, at most {self.max_batch}")
        for item in items[: self.max_batch]:
            found = _id_of(bytes(item))
            if found is not None:
                return b"[" + failure(error, found) + b"]"
        return b"[" + failure(error) + b"]"


def _run_length(calls: Sequence[_Call | _Refused], place: int) -> int:
    first = calls[place]
    if isinstance(first, _Refused) or first.method.batch is None:
        return 1
    end = place + 1
    while end < len(calls):
        call = calls[end]
        if isinstance(call, _Refused) or call.method is not first.method:
            break
        end += 1
    return end - place


def _valid_id(text: bytes) -> bool:
    if text[:1] == b'"':
        try:
            # The JSON scanner passes strings on unseen; they come back to the client in our answer.
            msgspec.json.decode(text, type=str)
        except _PARSE_FAILURES:
            return False
        return True
    return text[:1] in b"0123456789-" or text == b"null"


def _explain(body: bytes | str) -> tuple[RpcError, Raw]:
    """Say why JSON is not a request, with its id if that can be found."""
    text = body.encode() if isinstance(body, str) else body
    try:
        # The typed decoder stops at the first mismatch; what follows may still break the syntax.
        msgspec.json.decode(text, type=Raw)
    except _PARSE_FAILURES as error:
        return errors.parse_error(_parse_reason(error)), _NULL
    found = _id_of(text)
    if text.lstrip()[:1] != b"{":
        return errors.invalid_request("invalid request: expected an object"), _NULL
    return errors.invalid_request("invalid request"), _NULL if found is None else found


def _id_of(text: bytes) -> Raw | None:
    try:
        found = _id_only.decode(text).get("id")
    except (msgspec.MsgspecError, *_PARSE_FAILURES):
        return None
    return found if found is not None and _valid_id(bytes(found)) else None


def _parse_reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return "text is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def rpc_error(error: Exception, method: str) -> RpcError:
    """Translate what a method raised; anything unexpected is logged and becomes an internal error."""
    match error:
        case RpcError():
            return error
        case TimeoutError():
            return errors.timed_out()
        case RejectedTransaction():
            return errors.server_error(error.message)
        case InvalidTransaction():
            return errors.server_error(str(error.args[-1]))
        case InvalidTimestamp():
            return errors.server_error(str(error))
        case ChainStopped():
            return errors.server_error("the node is shutting down")
        case UnknownBlock():
            return errors.server_error("header not found")
        case InvalidRequest():
            return _not_understood(str(error), method)
        case StoreError() | NoriaError():
            _log.error("rpc_engine_failed", method=method, error=repr(error))
            return errors.internal_error()
        case _:
            _log.exception("rpc_method_failed", method=method, exc_info=error)
            return errors.internal_error()


def _not_understood(words: str, method: str) -> RpcError:
    """Translate the engine's refusal of a call object or of overrides, which it reads itself."""
    options = method == "debug_traceCall"
    for what, place in (("call object", 0), ("state override", 2), ("block override", 2 if options else 3)):
        if words.startswith(what):
            return errors.invalid_params(f"invalid argument {place}: {words}")
    return errors.server_error(words)
