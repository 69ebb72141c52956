"""The parameter search: real wines, the same result here and in the sandbox, tables that are none."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from examples.search import search as example
from examples.search.network import Choice, Score, Split, evaluate
from examples.search.search import WINES, BadTable, choices, read_table, search
from noria import LocalExecutor
from tests.client.runtime import python_runtime

REPOSITORY = Path(example.__file__).resolve().parent.parent.parent
GOOD = Choice(hidden=3, rate=0.08, cooling=0.9, decay=1e-4)
NUMBERS = tuple(range(178))
TAUGHT = tuple(number for number in NUMBERS if number % 4)
TESTED = NUMBERS[::4]


def test_the_table_is_the_one_of_the_repository() -> None:
    samples = read_table(WINES)
    assert [sum(label == kind for _, label in samples) for kind in range(3)] == [59, 71, 48]
    for column in zip(*(values for values, _ in samples), strict=True):
        assert sum(column) == pytest.approx(0, abs=1e-9)
        assert sum(value**2 for value in column) / len(column) == pytest.approx(1)


def test_a_network_learns() -> None:
    samples = read_table(WINES)
    after = evaluate(samples, GOOD, Split(TAUGHT, TESTED, 4, 1))
    before = evaluate(samples, GOOD, Split(TAUGHT, TESTED, 0, 1))
    assert after.right >= 42
    assert before.right < 35
    assert after.doubt < 0.2 < before.doubt


def test_what_is_tested_does_not_teach() -> None:
    samples = read_table(WINES)
    split = Split(TAUGHT, TESTED[:1], 2, 1)
    changed = tuple(
        (tuple(-value for value in values), label) if number in TESTED[1:] else (values, label)
        for number, (values, label) in enumerate(samples)
    )
    assert evaluate(samples, GOOD, split) == evaluate(changed, GOOD, split)


def test_the_sandbox_comes_to_the_same_result() -> None:
    runtime = python_runtime()
    samples = read_table(WINES)
    drawn = choices(3, seed=4)
    with LocalExecutor(2, runtime=runtime) as sandbox, ThreadPoolExecutor(1) as threads:
        there, held_there = search(samples, drawn, sandbox, parts=2, epochs=2, seed=1)
        here, held_here = search(samples, drawn, threads, parts=2, epochs=2, seed=1)
    assert [trial.choice for trial in there] == [trial.choice for trial in here]
    assert [trial.shares for trial in there] == [trial.shares for trial in here]
    assert [trial.doubt for trial in there] == pytest.approx([trial.doubt for trial in here])
    assert (held_there.right, held_there.tried) == (held_here.right, held_here.tried)
    assert there[0].mean == max(trial.mean for trial in there)


def test_samples_of_the_end_are_not_among_those_of_the_search() -> None:
    seen: list[Split] = []

    class Watching(ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):  # type: ignore[no-untyped-def]
            seen.append(args[-1])
            return super().submit(lambda: Score(1, 1, 0.0))

    with Watching(1) as executor:
        search(read_table(WINES), choices(2, 1), executor, parts=4, epochs=1, seed=3)
    *trials, final = seen
    assert len(trials) == 8
    known = set(final.taught)
    assert len(final.tested) == 35
    assert not known & set(final.tested)
    for split in trials:
        assert set(split.taught) | set(split.tested) == known
        assert not set(split.taught) & set(split.tested)


def test_choices_are_drawn_from_the_seed() -> None:
    assert choices(5, 1) == choices(7, 1)[:5] != choices(5, 2)


HEAD = "a,b,class\n"
ROWS = "".join(f"{i},{i * i},{i % 2}\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has 0 samples"),
        (HEAD + "1,2,0\n", "has 1 samples"),
        (HEAD + ROWS + "1,x,0\n", "line 14 is not all numbers"),
        (HEAD + ROWS + "1,2\n", "line 14 has not 2 measurements"),
        (HEAD + ROWS + "1,2,0.5\n", "line 14 is not all numbers"),
        (HEAD + ROWS + "1,nan,0\n", "line 14 has not 2 measurements"),
        (HEAD + ROWS + "1,2,-1\n", "line 14 is of class -1"),
        (HEAD + ROWS + "\n", "line 14 is not all numbers"),
    ],
)
def test_a_file_without_samples_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(BadTable, match=words):
        read_table(tmp_path / "table.csv")


def script(*arguments: str | int | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.search.search", "--local", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    python_runtime()
    (tmp_path / "table.csv").write_text(HEAD + ROWS)
    options = ("--trials", 2, "--parts", 2, "--epochs", 1)
    done = script("--data", tmp_path / "table.csv", *options, "--output", tmp_path / "trials.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 trainings in" in done.stdout
    rows = (tmp_path / "trials.csv").read_text().splitlines()
    assert rows[0] == "hidden,rate,cooling,decay,right,deviation,doubt"
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--trials", "0"], "--trials is from 1 to 10000"),
        (["--data", "/nowhere/table.csv"], "No such file"),
        (["--data", str(WINES.with_name("network.py"))], "is not all numbers"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], words: str) -> None:
    done = script(*arguments)
    assert done.returncode != 0
    assert words in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
