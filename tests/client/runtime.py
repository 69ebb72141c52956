"""The installed Python runtime, without which tests of the executor make no sense."""

import pytest

from noria.work.runtimes import Runtime, RuntimeProblem, installed


def python_runtime() -> Runtime:
    """The runtime; the test is skipped where it is not installed."""
    try:
        return installed()
    except RuntimeProblem as problem:
        pytest.skip(str(problem))
