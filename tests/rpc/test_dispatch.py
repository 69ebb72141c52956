"""Requests, batches, notifications, limits and errors, over methods made for the purpose."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from noria._core import InvalidRequest, InvalidTransaction, StoreFull, UnknownBlock
from noria.chain.errors import ChainStopped, InvalidTimestamp
from noria.execution.rejections import RejectedTransaction
from noria.rpc.dispatch import Dispatcher
from noria.rpc.errors import RpcError, reverted
from noria.rpc.params import (
    LATEST,
    QUANTITY,
    TEXT,
    AddressArg,
    BlockArg,
    BlockRef,
    BoolArg,
    CallArg,
    DataArg,
    OverridesArg,
    TextArg,
)
from noria.rpc.registry import Registry
from noria.rpc.shape import MAX_DEPTH, MAX_VALUES, is_deep, is_simple

ADDRESS = "0x" + "11" * 20


class Calls(list[tuple[str, Any]]):
    """What has been called, in order; the context of these tests."""


registry = Registry()


@registry.method("echo", TEXT)
def echo(calls: Calls, text: TextArg) -> str:
    """Return the text."""
    calls.append(("echo", text))
    return text


@registry.method("balance", QUANTITY)
async def balance(calls: Calls, address: AddressArg, block: BlockArg) -> str:
    """Return where it was asked."""
    calls.append(("balance", (address, block)))
    return "0x1"


@registry.method("call", QUANTITY)
def call(
    calls: Calls,
    request: CallArg,
    block: BlockArg = LATEST,
    overrides: OverridesArg = None,
    flag: BoolArg = False,
) -> list[Any]:
    """Return what was understood."""
    calls.append(("call", (request, block, overrides, flag)))
    return []


@registry.method("raise_it", TEXT)
def raise_it(calls: Calls, what: TextArg) -> None:
    """Fail in a chosen way."""
    raise FAILURES[what]


@registry.method("wait", TEXT)
async def wait(calls: Calls) -> None:
    """Never answer."""
    calls.append(("wait", None))
    await asyncio.Event().wait()


@registry.method("spin", TEXT)
def spin(calls: Calls) -> str:
    """Hold the loop for longer than a turn."""
    end = time.monotonic() + 0.01
    while time.monotonic() < end:
        pass
    return ""


@registry.method("big", TEXT)
def big(calls: Calls) -> str:
    """Return 600 characters."""
    return "x" * 600


async def put_together(calls: Calls, items: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    calls.append(("put_together", [item[0] for item in items]))
    return [RpcError(-32000, "refused") if item[0] == b"\0" else "0x" + item[0].hex() for item in items]


@registry.method("put", TEXT, batch=put_together)
async def put(calls: Calls, data: DataArg) -> str:
    """Return the data."""
    calls.append(("put", data))
    return "0x" + data.hex()


async def fail_together(calls: Calls, items: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    raise ZeroDivisionError


@registry.method("fail", TEXT, batch=fail_together)
async def fail(calls: Calls) -> None:
    """Fail."""


FAILURES: dict[str, Exception] = {
    "reverted": reverted(b"\x12"),
    "mempool": RejectedTransaction("nonce-too-low", "nonce too low: next nonce 1, tx nonce 0"),
    "transaction": InvalidTransaction("chain-id", "invalid chain id for signer: have 1 want 2"),
    "block": UnknownBlock("0xab"),
    "object": InvalidRequest("call object: invalid string length"),
    "override": InvalidRequest("block override: beaconRoot cannot be overridden"),
    "request": InvalidRequest("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"),
    "store": StoreFull("/secret/path is full"),
    "time": InvalidTimestamp("timestamp 1 is not later than the parent block's, 2"),
    "stopped": ChainStopped(),
    "bug": KeyError("secret"),
}


def dispatcher(**limits: Any) -> Dispatcher:
    chosen = {"max_batch": 10, "max_response_bytes": 2_000, "request_seconds": 30.0} | limits
    return Dispatcher(registry, **chosen)


async def ask(body: bytes | str | Any, calls: Calls | None = None, **limits: Any) -> Any:
    """Send anything, as JSON unless it is bytes, and return the decoded answer."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await dispatcher(**limits).answer(data, Calls() if calls is None else calls)
    return None if answer is None else json.loads(answer)


def request(method: str, *params: Any, id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": list(params)}


def error_of(answer: Any) -> tuple[int, str]:
    assert set(answer) == {"jsonrpc", "id", "error"}
    return answer["error"]["code"], answer["error"]["message"]


# ---------------------------------------------------------------- single requests


@pytest.mark.parametrize("id", [1, 0, -5, 1.5, "a", "", None, "é", 10**30])
async def test_answer_carries_the_id(id: Any) -> None:
    assert await ask(request("echo", "hi", id=id)) == {"jsonrpc": "2.0", "id": id, "result": "hi"}


@pytest.mark.parametrize("id", [{}, [], [1], True, False])
async def test_bad_id(id: Any) -> None:
    answer = await ask(request("echo", "hi", id=id))
    assert error_of(answer)[0] == -32600
    assert answer["id"] is None


async def test_id_that_is_not_text() -> None:
    answer = await ask(b'{"jsonrpc":"2.0","id":"\xff","method":"echo","params":["x"]}')
    assert error_of(answer)[0] in (-32600, -32700)


async def test_notification_gets_no_answer() -> None:
    calls = Calls()
    assert await ask({"jsonrpc": "2.0", "method": "echo", "params": ["hi"]}, calls) is None
    assert calls == [("echo", "hi")]


@pytest.mark.parametrize(
    "body",
    [
        {"jsonrpc": "2.0", "method": "unknown"},
        {"jsonrpc": "2.0", "method": "echo", "params": [1]},
        {"jsonrpc": "2.0", "method": "raise_it", "params": ["bug"]},
    ],
)
async def test_failing_notification_gets_no_answer(body: Any) -> None:
    with structlog.testing.capture_logs():
        assert await ask(body) is None


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b"[", b"\xff\xfe", b"nope", b'{"a":1}}', b'{"jsonrpc":"2.0","method":"\xff"}', b"\0"],
)
async def test_not_json(body: bytes) -> None:
    answer = await ask(body)
    assert error_of(answer)[0] == -32700
    assert answer["id"] is None


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"jsonrpc":"2.0","id":1,"method":"echo","params":['])
async def test_nested_too_deeply(opening: bytes) -> None:
    depth = 50_000
    closing = {b"[": b"]", b'{"a":': b"1}"}.get(opening, b"")
    body = opening * depth + closing * depth if closing else opening + b"[" * depth + b"]" * depth + b"]}"
    code, message = error_of(await ask(body))
    assert (code, message) == (-32700, "parse error: nested too deeply")


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"jsonrpc":"2.0","id":1,"method":"echo","params":['])
async def test_nesting_under_a_raised_recursion_limit(opening: bytes) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        assert error_of(await ask(opening * 30_000)) == (-32700, "parse error: nested too deeply")
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("value", [b"1", b"[]", b"null"])
async def test_too_many_values(value: bytes) -> None:
    code, message = error_of(await ask(b"[" + b",".join([value] * (MAX_VALUES + 2)) + b"]"))
    assert code == -32600
    assert message.startswith("request too large")


async def test_many_brackets_need_not_be_deep() -> None:
    text = "[{" * 10_000
    assert (await ask(request("echo", text), max_response_bytes=10**6))["result"] == text
    assert error_of(await ask(request("echo", [{}] * 10_000)))[0] == -32602


@given(st.recursive(st.text(alphabet='[]{}\\"a') | st.integers(), st.lists, max_leaves=20))
def test_depth_is_that_of_the_brackets(value: Any) -> None:
    def depth(item: Any) -> int:
        return 1 + max(map(depth, item), default=0) if isinstance(item, list) else 0

    text = json.dumps(value)
    extra = MAX_DEPTH - depth(value)
    assert not is_deep("[" * extra + text + "]" * extra)
    assert is_deep(("[" * (extra + 1) + text + "]" * (extra + 1)).encode())


@given(st.binary(max_size=100) | st.text(max_size=100))
def test_depth_of_anything(text: bytes | str) -> None:
    assert is_simple(text)
    assert not is_deep(text)


async def test_nested_too_deeply_within_a_batch() -> None:
    deep = b'{"jsonrpc":"2.0","id":1,"method":"echo","params":' + b"[" * 900 + b"]" * 900 + b"}"
    answer = await ask(b"[" + deep + b"]")
    codes = {error_of(one)[0] for one in (answer if isinstance(answer, list) else [answer])}
    assert codes <= {-32700, -32602}


@pytest.mark.parametrize(
    "body", [1, "text", True, None, {}, {"id": 1}, {"jsonrpc": "2.0", "id": 1, "method": 5}]
)
async def test_not_a_request(body: Any) -> None:
    assert error_of(await ask(body))[0] == -32600


async def test_invalid_request_keeps_its_id() -> None:
    assert (await ask({"jsonrpc": "2.0", "id": 7, "method": 5}))["id"] == 7


@pytest.mark.parametrize("version", ["1.0", "", 2.0, None])
async def test_wrong_version(version: Any) -> None:
    assert error_of(await ask({"jsonrpc": version, "id": 1, "method": "echo", "params": ["x"]}))[0] == -32600


async def test_unknown_method() -> None:
    answer = await ask(request("eth_coffee"))
    assert error_of(answer) == (-32601, "the method eth_coffee does not exist/is not available")


# ---------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("balance", [], "missing value for required argument 0"),
        ("balance", [ADDRESS], "missing value for required argument 1"),
        ("balance", [ADDRESS, None], "missing value for required argument 1"),
        ("balance", [None, "latest"], "missing value for required argument 0"),
        ("balance", [ADDRESS, "latest", 1], "too many arguments, want at most 2"),
        ("wait", [1], "too many arguments, want at most 0"),
        ("balance", ["0x12", "latest"], "invalid argument 0: hex string has length 2, want 40 for address"),
        ("balance", [ADDRESS, "newest"], "invalid argument 1: hex string without 0x prefix"),
        ("balance", [5, "latest"], "invalid argument 0: expected `str`, got `int`"),
        ("balance", {"address": ADDRESS}, "non-array args"),
        ("balance", "latest", "non-array args"),
        ("call", [[]], "invalid argument 0: expected an object, got an array"),
        ("call", [None], "missing value for required argument 0"),
        ("call", [{}, "latest", 5], "invalid argument 2: expected an object, got a number"),
    ],
)
async def test_wrong_arguments(method: str, params: Any, words: str) -> None:
    calls = Calls()
    answer = await ask({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, calls)
    assert error_of(answer) == (-32602, words)
    assert not calls


@pytest.mark.parametrize("params", [None, []])
async def test_no_arguments_may_be_null(params: Any) -> None:
    assert (await ask({"jsonrpc": "2.0", "id": 1, "method": "big", "params": params}))["result"] == "x" * 600


async def test_arguments_may_be_left_out() -> None:
    assert "result" in await ask({"jsonrpc": "2.0", "id": 1, "method": "big"})


async def test_optional_arguments() -> None:
    calls = Calls()
    await ask(request("call", {"to": ADDRESS}), calls)
    await ask(request("call", {}, "0x5", None, True), calls)
    await ask(request("call", {}, {"blockNumber": "0x5"}, {"a": {}}), calls)
    assert [arguments for _, arguments in calls] == [
        (b'{"to": "%b"}' % ADDRESS.encode(), LATEST, None, False),
        (b"{}", BlockRef(number=5), None, True),
        (b"{}", BlockRef(number=5), b'{"a": {}}', False),
    ]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("what", "code", "words"),
    [
        ("reverted", 3, "execution reverted"),
        ("mempool", -32000, "nonce too low: next nonce 1, tx nonce 0"),
        ("transaction", -32000, "invalid chain id for signer: have 1 want 2"),
        ("block", -32000, "header not found"),
        ("object", -32602, "invalid argument 0: call object: invalid string length"),
        ("override", -32602, "invalid argument 3: block override: beaconRoot cannot be overridden"),
        ("request", -32000, "both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified"),
        ("time", -32000, "timestamp 1 is not later than the parent block's, 2"),
        ("stopped", -32000, "the node is shutting down"),
    ],
)
async def test_failures_are_named(what: str, code: int, words: str) -> None:
    assert error_of(await ask(request("raise_it", what))) == (code, words)


async def test_revert_carries_its_data() -> None:
    assert (await ask(request("raise_it", "reverted")))["error"]["data"] == "0x12"


@pytest.mark.parametrize("what", ["bug", "store"])
async def test_internal_failure_is_logged_and_not_told(what: str) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = await ask(request("raise_it", what))
    assert error_of(answer) == (-32603, "internal error")
    assert "secret" not in json.dumps(answer)
    assert logged[0]["log_level"] == "error"
    assert logged[0]["method"] == "raise_it"


async def test_request_time_limit() -> None:
    assert error_of(await ask(request("wait"), request_seconds=0.01)) == (-32002, "request timed out")


async def test_response_size_limit() -> None:
    whole = len(await dispatcher().answer(json.dumps(request("big")).encode(), Calls()) or b"")
    assert "result" in await ask(request("big"), max_response_bytes=whole)
    answer = await ask(request("big"), max_response_bytes=whole - 1)
    assert error_of(answer) == (-32003, "response too large")


# ---------------------------------------------------------------- batches


async def test_batch_in_order() -> None:
    answer = await ask([request("echo", str(id), id=id) for id in range(10)])
    assert [(one["id"], one["result"]) for one in answer] == [(id, str(id)) for id in range(10)]


async def test_empty_batch() -> None:
    assert error_of(await ask([])) == (-32600, "empty batch")


async def test_batch_too_long() -> None:
    calls = Calls()
    (answer,) = await ask([{"jsonrpc": "2.0", "method": "echo"}] + [request("echo", "x", id=9)] * 10, calls)
    assert error_of(answer) == (-32600, "batch too large: 11 requests, at most 10")
    assert answer["id"] == 9
    assert not calls


async def test_long_batch_of_anything() -> None:
    (answer,) = await ask(list(range(11)))
    assert error_of(answer)[0] == -32600


async def test_batch_with_bad_items() -> None:
    answer = await ask([1, request("echo", "a"), [], {"id": 4}, request("nothing", id=5), None])
    assert [one.get("result") or error_of(one)[0] for one in answer] == [
        -32600,
        "a",
        -32600,
        -32600,
        -32601,
        -32600,
    ]
    assert [one["id"] for one in answer] == [None, 1, None, 4, 5, None]


async def test_batch_with_notifications() -> None:
    calls = Calls()
    answer = await ask([{"jsonrpc": "2.0", "method": "echo", "params": ["a"]}, request("echo", "b")], calls)
    assert [one["result"] for one in answer] == ["b"]
    assert calls == [("echo", "a"), ("echo", "b")]


async def test_batch_of_notifications_only() -> None:
    assert await ask([{"jsonrpc": "2.0", "method": "echo", "params": ["a"]}] * 2) is None


async def test_consecutive_calls_are_taken_together() -> None:
    calls = Calls()
    answer = await ask(
        [
            request("put", "0x01", id=1),
            request("put", "0x00", id=2),
            request("put", "0x03", id=3),
            request("echo", "x", id=4),
            request("put", "0x05", id=5),
            request("put", "0x0", id=6),
            request("put", "0x07", id=7),
        ],
        calls,
    )
    assert calls == [
        ("put_together", [b"\1", b"\0", b"\3"]),
        ("echo", "x"),
        ("put_together", [b"\5"]),
        ("put_together", [b"\7"]),
    ]
    assert [one.get("result") or error_of(one)[1] for one in answer] == [
        "0x01",
        "refused",
        "0x03",
        "x",
        "0x05",
        "invalid argument 0: hex string of odd length",
        "0x07",
    ]


async def test_failure_of_calls_taken_together() -> None:
    with structlog.testing.capture_logs():
        answer = await ask([request("fail", id=1), request("fail", id=2), request("echo", "x", id=3)])
    assert [one["id"] for one in answer] == [1, 2, 3]
    assert [error_of(one)[0] for one in answer[:2]] == [-32603, -32603]
    assert answer[2]["result"] == "x"


async def test_time_limit_of_a_batch() -> None:
    calls = Calls()
    batch = [request("echo", "a", id=1), request("wait", id=2), request("echo", "c", id=3)]
    answer = await ask(batch, calls, request_seconds=0.05)
    assert answer[0]["result"] == "a"
    assert [(one["id"], error_of(one)[0]) for one in answer[1:]] == [(2, -32002), (3, -32002)]
    assert ("echo", "c") not in calls


async def test_batch_of_quick_calls_lets_others_run() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await ask([request("spin", id=id) for id in range(10)])
    task.cancel()
    assert turns >= 5


async def test_quick_calls_are_under_the_time_limit_of_their_batch() -> None:
    answer = await ask([request("spin", id=id) for id in range(10)], request_seconds=0.03)
    assert "result" in answer[0]
    assert error_of(answer[-1])[0] == -32002


async def test_response_size_limit_of_a_batch() -> None:
    answer = await ask([request("big", id=id) for id in range(5)], max_response_bytes=1_500)
    assert [one["id"] for one in answer] == list(range(5))
    assert ["result" in one for one in answer] == [True, True, False, False, False]
    assert {error_of(one)[0] for one in answer[2:]} == {-32003}


# ---------------------------------------------------------------- anything

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4)
    ),
    max_leaves=12,
)
near_requests = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", None]),
        "id": json_values,
        "method": st.sampled_from(["echo", "balance", "call", "put", "fail", "nothing"]) | json_values,
        "params": json_values,
    },
)


@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | (json_values | near_requests | st.lists(near_requests)).map(lambda v: json.dumps(v).encode())
)
async def test_anything_is_answered(body: bytes) -> None:
    with structlog.testing.capture_logs():
        answer = await dispatcher(max_response_bytes=10**6).answer(body, Calls())
    if answer is None:
        return
    decoded = json.loads(answer)
    for one in decoded if isinstance(decoded, list) else [decoded]:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)
