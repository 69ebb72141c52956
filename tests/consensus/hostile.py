"""What peers send instead of messages."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st

from noria.primitives import rlp
from noria.primitives.rlp import RlpItem

T = TypeVar("T")
items = st.recursive(st.binary(max_size=120), lambda children: st.lists(children, max_size=9), max_leaves=40)


def bytes_like(samples: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Random bytes, random RLP, and samples with bytes changed, cut out, doubled or joined."""
    return st.one_of(st.binary(max_size=300), items.map(rlp.encode), mutated(samples), mutated_items(samples))


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A sample with a few changes of its bytes."""
    data = draw(st.sampled_from(samples))
    for _ in range(draw(st.integers(0, 3))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        to = draw(st.integers(at, min(len(data), at + 40)))
        data = draw(
            st.sampled_from(
                [
                    data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :],
                    data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :],
                    data[:at] + data[to:],
                    data[:to] + data[at:],
                    data[:at],
                ]
            )
        )
    return data


@st.composite
def mutated_items(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """A sample with one field, however deep, replaced, so that all lengths around it stay right."""

    def change(item: RlpItem) -> RlpItem:
        if isinstance(item, list) and item and draw(st.integers(0, 4)):
            at = draw(st.integers(0, len(item) - 1))
            return [*item[:at], change(item[at]), *item[at + 1 :]]
        if isinstance(item, list):
            lists: list[RlpItem] = [[*item, b""], item[:-1], b"", item * 2]
            return draw(st.sampled_from(lists))
        others: list[RlpItem] = [
            b"",
            b"\x00",
            item + b"\x00",
            item[:-1],
            item[::-1],
            b"\xff" * len(item),
            [item],
        ]
        return draw(st.sampled_from(others))

    return rlp.encode(change(rlp.decode(draw(st.sampled_from(samples)))))


def check_decoder(data: bytes, decode: Callable[[bytes], T], encode: Callable[[T], bytes]) -> None:
    """Bytes are a named rejection, or the one encoding of what is read."""
    rejection = None
    try:
        value = decode(data)
    except ValueError as error:
        rejection = error
    if rejection is None:
        assert encode(value) == data
    else:
        assert type(rejection) is not ValueError, "a rejection has a name of its own"
        assert "\n" not in str(rejection)


def peak_bytes(decode: Callable[[bytes], object], data: bytes) -> int:
    """Most memory that a decoder held while it read."""
    tracemalloc.start()
    try:
        decode(data)
    except ValueError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak
