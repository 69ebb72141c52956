"""The public RLPTests: the valid encodes and decodes exactly so, the invalid is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from noria.primitives import rlp
from noria.primitives.rlp import InvalidEncoding, RlpItem
from tests.fixtures import fixture_files, require_fixture

FOLDER = "ethereum-tests/RLPTests"


def item_of(value: Any) -> RlpItem:
    """The item that the suite's JSON stands for: numbers and ``"#12"`` are integers, other text is itself."""
    if isinstance(value, list):
        return [item_of(inner) for inner in value]
    if isinstance(value, int):
        return rlp.integer_to_bytes(value)
    assert isinstance(value, str)
    return rlp.integer_to_bytes(int(value[1:])) if value.startswith("#") else value.encode()


@pytest.mark.parametrize("file", fixture_files(FOLDER))
def test_every_case_of_the_public_suite(file: str) -> None:
    cases = json.loads(require_fixture(file).read_text())
    assert cases
    for name, case in cases.items():
        encoded = bytes.fromhex(case["out"].removeprefix("0x"))
        if case["in"] == "INVALID":
            with pytest.raises(InvalidEncoding):
                pytest.fail(f"{name} decoded to {rlp.decode(encoded)!r}")
        elif case["in"] == "VALID":
            assert rlp.encode(rlp.decode(encoded)) == encoded, name
        else:
            item = item_of(case["in"])
            assert rlp.encode(item) == encoded, name
            assert rlp.decode(encoded) == item, name
