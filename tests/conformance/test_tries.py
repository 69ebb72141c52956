"""The public trie suite: roots after writes in order, in any order, with plain and with hashed keys."""

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from noria._core import trie_root
from tests.fixtures import fixture_files, require_fixture

SUITE = "ethereum-tests/TrieTests"
NEIGHBOURS = "trietestnextprev.json"
"""Asks for the keys beside a key; `crates/state/tests/public_tries.rs` walks the trie for it."""
MOST_ORDERS = 24


def as_bytes(text: str | None) -> bytes:
    """Read the suite's own notation: hexadecimal after 0x, text otherwise, null for a deletion."""
    if text is None:
        return b""
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()


def is_secure(path: Path) -> bool:
    return "secure" in path.name.lower()


def orders(writes: Any) -> list[list[tuple[bytes, bytes]]]:
    """Orders in which the writes must give the same root: the one written, or many of a map's."""
    if isinstance(writes, list):
        return [[(as_bytes(key), as_bytes(value)) for key, value in writes]]
    pairs = [(as_bytes(key), as_bytes(value)) for key, value in writes.items()]
    if len(pairs) <= 4:
        return [list(order) for order in itertools.permutations(pairs)]
    shuffler = random.Random(0)
    return [pairs, *(shuffler.sample(pairs, len(pairs)) for _ in range(MOST_ORDERS - 1))]


@pytest.mark.parametrize("file", [file for file in fixture_files(SUITE) if not file.endswith(NEIGHBOURS)])
def test_trie_suite(file: str) -> None:
    path = require_fixture(file)
    cases = json.loads(path.read_text())
    assert cases
    for name, case in cases.items():
        for order in orders(case["in"]):
            assert trie_root(order, is_secure(path)).hex() == case["root"][2:], name
