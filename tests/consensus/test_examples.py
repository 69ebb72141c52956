"""The examples in the documentation hold."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["bitfield", "wire"])
def test_examples(name: str) -> None:
    outcome = doctest.testmod(
        importlib.import_module(f"noria.consensus.{name}"), optionflags=doctest.ELLIPSIS
    )
    assert outcome.attempted > 0
    assert outcome.failed == 0
