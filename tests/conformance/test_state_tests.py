"""The public state tests: a quick part in every run, all of them in ``make conformance``."""

from typing import Any

import pytest

from noria._core import run_state_test
from tests.fixtures import fixture_files, fixture_root, require_fixture

SUITE = "ethereum-tests/GeneralStateTests"
QUICK = (
    "Shanghai",
    "stChainId",
    "stCodeSizeLimit",
    "stEIP2930",
    "stEIP3607",
    "stExample",
    "stLogTests",
    "stSLoadTest",
    "stShift",
    "stTransactionTest",
)
FORK = "Cancun"


def failures(directory: str) -> tuple[int, list[dict[str, Any]]]:
    """Number of Cancun cases below this directory, and those that fail."""
    rows = [
        {"file": file, **row}
        for file in fixture_files(directory)
        for row in run_state_test((fixture_root() / file).read_bytes(), [FORK])
    ]
    return len(rows), [row for row in rows if not row["pass"]]


@pytest.mark.parametrize("directory", QUICK)
def test_quick_part_of_the_state_tests(directory: str) -> None:
    require_fixture(f"{SUITE}/{directory}")
    count, failed = failures(f"{SUITE}/{directory}")
    assert count > 0
    assert failed == []


@pytest.mark.conformance
def test_all_state_tests() -> None:
    require_fixture(SUITE)
    count, failed = failures(SUITE)
    # The collection holds 3,782; a filter that loses cases must not look like a success.
    assert count > 3500
    assert failed == []
