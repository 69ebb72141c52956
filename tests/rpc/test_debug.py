"""Traces of transactions and calls."""

from __future__ import annotations

from typing import Any

import pytest

from noria.execution.accounts import DevAccount
from tests.rpc import evm
from tests.rpc.conftest import Rpc, hexed

UNKNOWN = "0x" + "ab" * 32
CALL_TRACER = {"tracer": "callTracer"}


def caller(target: str) -> bytes:
    """A contract that calls another one and ignores the outcome."""
    # PUSH0 ×5, PUSH20 target, GAS, CALL, STOP
    return bytes.fromhex("5f5f5f5f5f73" + target[2:] + "5af100")


@pytest.fixture
def alice(dev_keys: list[DevAccount]) -> str:
    return hexed(dev_keys[0].address)


async def test_trace_transaction(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    inner = await rpc.deploy(dev_keys[0], evm.REVERTER)
    outer = await rpc.deploy(dev_keys[0], caller(inner))
    receipt = await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": outer, "data": "0x12"}))
    trace = await rpc("debug_traceTransaction", receipt["transactionHash"], CALL_TRACER)
    assert (trace["type"], trace["from"], trace["to"], trace["input"]) == ("CALL", alice, outer, "0x12")
    assert trace["gasUsed"] == receipt["gasUsed"]
    (frame,) = trace["calls"]
    assert (frame["type"], frame["from"], frame["to"], frame["error"]) == (
        "CALL",
        outer,
        inner,
        "execution reverted",
    )


async def test_only_top_call(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    inner = await rpc.deploy(dev_keys[0], evm.ECHO)
    outer = await rpc.deploy(dev_keys[0], caller(inner))
    receipt = await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": outer}))
    options = CALL_TRACER | {"tracerConfig": {"onlyTopCall": True}}
    assert "calls" not in await rpc("debug_traceTransaction", receipt["transactionHash"], options)


async def test_trace_with_logs(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    logger = await rpc.deploy(dev_keys[0], evm.LOGGER)
    call = {"from": alice, "to": logger, "data": hexed(evm.word(7) + evm.word(9))}
    options = CALL_TRACER | {"tracerConfig": {"withLog": True}}
    (log,) = (await rpc("debug_traceCall", call, "latest", options))["logs"]
    assert (log["address"], log["topics"], log["data"]) == (logger, [hexed(evm.word(7))], hexed(evm.word(9)))
    assert "logs" not in await rpc("debug_traceCall", call, "latest", CALL_TRACER)


async def test_trace_call_with_overrides(rpc: Rpc, alice: str) -> None:
    nobody = "0x" + "99" * 20
    options = CALL_TRACER | {"stateOverrides": {nobody: {"code": hexed(evm.ECHO)}}}
    trace = await rpc("debug_traceCall", {"from": alice, "to": nobody, "data": "0xabcd"}, "latest", options)
    assert trace["output"] == "0xabcd"


async def test_trace_of_a_deployment(rpc: Rpc, alice: str) -> None:
    call = {"from": alice, "data": hexed(evm.init_code(evm.ECHO))}
    trace = await rpc("debug_traceCall", call, "latest", CALL_TRACER)
    assert (trace["type"], trace["output"]) == ("CREATE", hexed(evm.ECHO))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (None, "the default struct logger is not supported"),
        ({}, "the default struct logger is not supported"),
        (
            {"tracer": "prestateTracer"},
            'tracer "prestateTracer" is not supported; set "tracer" to "callTracer"',
        ),
        ({"tracer": "x" * 10_000}, 'tracer "xxx'),
    ],
)
async def test_other_tracers(rpc: Rpc, options: Any, words: str) -> None:
    for method, params in (("debug_traceTransaction", [UNKNOWN]), ("debug_traceCall", [{}, "latest"])):
        failure = await rpc.failure(method, *params, options)
        assert failure.code == -32000
        assert failure.message.startswith(words)
        assert len(failure.message) < 200


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("debug_traceTransaction", [UNKNOWN, CALL_TRACER], -32000, "transaction not found"),
        ("debug_traceTransaction", ["0x12", CALL_TRACER], -32602, "invalid argument 0"),
        ("debug_traceTransaction", [UNKNOWN, 5], -32602, "invalid argument 1"),
        (
            "debug_traceTransaction",
            [UNKNOWN, CALL_TRACER | {"tracerConfig": 5}],
            -32602,
            "invalid argument 1",
        ),
        ("debug_traceCall", [{"to": "0x12"}, "latest", CALL_TRACER], -32602, "invalid argument 0"),
        ("debug_traceCall", [{}, "0x99", CALL_TRACER], -32000, "header not found"),
        (
            "debug_traceCall",
            [{}, "latest", CALL_TRACER | {"stateOverrides": 5}],
            -32602,
            "invalid argument 2",
        ),
    ],
)
async def test_bad_traces(rpc: Rpc, method: str, params: list[Any], code: int, words: str) -> None:
    failure = await rpc.failure(method, *params)
    assert failure.code == code
    assert failure.message.startswith(words)
