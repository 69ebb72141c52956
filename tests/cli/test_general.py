"""What holds for every command: help, version, and errors of one line."""

import pytest

from tests.cli.command import assert_one_line_error, noria

COMMANDS = [
    [],
    ["dev"],
    ["account"],
    ["account", "new"],
    ["account", "list"],
    ["account", "import"],
    ["send"],
    ["doctor"],
    ["evm"],
    ["evm", "statetest"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_explains_and_shows_an_example(command: list[str]) -> None:
    outcome = noria(*command, "--help")
    assert outcome.returncode == 0, outcome
    assert "Usage:" in outcome.stdout
    assert outcome.stderr == ""
    if command not in (["account"], ["evm"]):
        assert "Examples" in outcome.stdout
        assert " ".join(["noria", *command]) in outcome.stdout


def test_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    outcome = noria("--version")
    assert (outcome.returncode, outcome.stdout) == (0, f"noria {version('noria')}\n")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nonsense"], "nonsense"),
        (["dev", "--nonsense"], "--nonsense"),
        (["dev", "--port", "70000"], "--port"),
        (["dev", "--port", "http"], "--port"),
        (["dev", "--accounts", "-1"], "--accounts"),
        (["dev", "--block-time", "0"], "block time"),
        (["dev", "--block-time", "nan"], "block time"),
        (["dev", "--chain-id", "0"], "chain-id"),
        (["dev", "--log-level", "loud"], "loud"),
        (["send"], "--to"),
        (["evm", "statetest"], "PATH"),
        (["account", "import"], "FILE"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(arguments: list[str], word: str) -> None:
    assert_one_line_error(noria(*arguments), 2, word)


def test_debug_variable_shows_where_an_error_happened() -> None:
    quiet = noria("send", "--to", "nobody", "--from", "nobody")
    assert "Traceback" not in quiet.stderr
    loud = noria("send", "--to", "nobody", "--from", "nobody", environment={"NORIA_DEBUG": "1"})
    assert loud.returncode == quiet.returncode
    assert "Traceback" in loud.stderr
    assert loud.stderr.splitlines()[-1] == quiet.stderr.splitlines()[-1]
