"""Reasons of reverts, in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.execution.reverts import revert_reason
from noria.rpc.errors import EXECUTION_REVERTED, method_not_found, reverted


def error_string(text: bytes, *, length: int | None = None, offset: int = 32) -> bytes:
    size = len(text) if length is None else length
    padded = text + bytes(-len(text) % 32)
    return bytes.fromhex("08c379a0") + offset.to_bytes(32, "big") + size.to_bytes(32, "big") + padded


def panic(code: int) -> bytes:
    return bytes.fromhex("4e487b71") + code.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (error_string(b"not enough NOR"), "not enough NOR"),
        (error_string(b""), ""),
        (error_string("größer".encode()), "größer"),
        (error_string(b"\xff"), "\ufffd"),
        (panic(0x00), "generic panic"),
        (panic(0x01), "assert(false)"),
        (panic(0x11), "arithmetic underflow or overflow"),
        (panic(0x12), "division or modulo by zero"),
        (panic(0x32), "out-of-bounds access of an array or bytesN"),
        (panic(0x99), "unknown panic code: 0x99"),
    ],
)
def test_reason_is_decoded(output: bytes, reason: str) -> None:
    assert revert_reason(output) == reason
    assert reverted(output).message == f"execution reverted: {reason}"


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\x08",
        bytes.fromhex("08c379a0"),
        bytes.fromhex("deadbeef") + bytes(32),
        panic(1)[:-1],
        error_string(b"short", length=64),
        error_string(b"x", length=2**255),
        error_string(b"x", offset=2**255),
        error_string(b"x", offset=65),
    ],
)
def test_other_output_has_no_reason(output: bytes) -> None:
    error = reverted(output)
    assert revert_reason(output) is None
    assert (error.code, error.message, error.data) == (
        EXECUTION_REVERTED,
        "execution reverted",
        "0x" + output.hex(),
    )


@given(st.sampled_from([b"", bytes.fromhex("08c379a0"), bytes.fromhex("4e487b71")]), st.binary(max_size=200))
def test_any_output_is_bounded_text(selector: bytes, body: bytes) -> None:
    reason = revert_reason(selector + body)
    assert reason is None or len(reason) <= 40 + len(body) * 2


@given(st.binary(max_size=100))
def test_error_string_round_trip(text: bytes) -> None:
    assert revert_reason(error_string(text)) == text.decode("utf-8", "replace")


def test_long_method_name_is_cut() -> None:
    assert len(method_not_found("x" * 10_000).message) < 150
