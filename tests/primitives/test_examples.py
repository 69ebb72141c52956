"""The examples in the documentation hold."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["addresses", "amounts", "hashes", "hexes", "keys", "rlp"])
def test_examples(name: str) -> None:
    module = importlib.import_module(f"noria.primitives.{name}")
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0
    assert outcome.failed == 0
