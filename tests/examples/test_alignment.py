"""The alignment example: real proteins, the scores of another implementation, and the recorded fuel."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.alignment import align
from examples.alignment.align import (
    BLOSUM62,
    FAMILY,
    BadFamily,
    Comparison,
    Protein,
    biopython_score,
    check,
    compare_all,
    local_score,
    read_family,
    similarities,
)
from noria import LocalExecutor
from tests.client.runtime import python_runtime

REPOSITORY = Path(align.__file__).resolve().parent.parent.parent
TOTAL_RESIDUES = 5723
SMALL = [Protein(one.name, one.residues[100:220]) for one in read_family(FAMILY)[:3]]
SMALL_SCORES = [
    Comparison("LUXC_PHOPO", "LUXC_PHOPO", 619),
    Comparison("LUXC_PHOPO", "LUXC_VIBHA", 444),
    Comparison("LUXC_PHOPO", "LUXC_ALIFS", 471),
    Comparison("LUXC_VIBHA", "LUXC_VIBHA", 625),
    Comparison("LUXC_VIBHA", "LUXC_ALIFS", 452),
    Comparison("LUXC_ALIFS", "LUXC_ALIFS", 630),
]
SMALL_FUEL = {"62be76632cc4217b": 1_684_719_097}
"""By the runtime's id: another runtime, or other rules for fuel, are recorded here again."""


def test_the_family_is_the_one_of_the_package() -> None:
    proteins = read_family(FAMILY)
    assert [protein.name for protein in proteins[:3]] == ["LUXC_PHOPO", "LUXC_VIBHA", "LUXC_ALIFS"]
    assert sum(len(protein.residues) for protein in proteins) == TOTAL_RESIDUES
    assert proteins[0].residues.startswith("MCNAEFKGDCMIKKIPMIIGGAERDTSEHEYRELTLNSYKVSIPIINQDDVEAIKSQSVE")


def test_the_matrix_is_biopythons() -> None:
    from Bio.Align import substitution_matrices

    theirs = substitution_matrices.load("BLOSUM62")
    assert sorted(BLOSUM62) == sorted(theirs.alphabet)
    assert all(BLOSUM62[a][b] == theirs[a, b] for a in BLOSUM62 for b in BLOSUM62)


residues = st.text(alphabet="ARNDCQEGHILKMFPSTWYVBZX", min_size=1, max_size=60)


@given(residues, residues)
def test_scores_are_biopythons(a: str, b: str) -> None:
    assert local_score(a, b) == biopython_score(Protein("a", a), Protein("b", b)) == local_score(b, a)


def test_real_proteins_give_the_recorded_scores_and_fuel_in_the_sandbox() -> None:
    runtime = python_runtime()
    with LocalExecutor(2, runtime=runtime) as executor:
        comparisons = compare_all(SMALL, executor)
        fuel = executor.stats().fuel
    assert comparisons == SMALL_SCORES
    assert check(SMALL, comparisons) == 0
    assert {runtime.program_id.hex()[:16]: fuel} == SMALL_FUEL


def test_a_wrong_score_would_be_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = SMALL[:2]
    right = biopython_score(first, second)
    assert check(SMALL, [Comparison(first.name, second.name, right + 1)]) == 1
    assert f"Biopython says {right}" in capsys.readouterr().out


def test_similarity_is_relative_to_a_protein_with_itself() -> None:
    found = similarities([Comparison("a", "a", 100), Comparison("b", "b", 50), Comparison("a", "b", 25)])
    assert found == {("a", "a"): 1.0, ("b", "b"): 1.0, ("a", "b"): 0.5, ("b", "a"): 0.5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no protein"),
        ("MKV\n", "no protein"),
        (">\nMKV\n", "no name"),
        (">sp|P1|NAME text\n", "no residues"),
        (">one\nMKV\n>two\nM1J\n", "protein 2 has unknown residues 1 J"),
        (">long\n" + "M" * 5001, "at most 5000"),
    ],
)
def test_a_file_without_proteins_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "family.fasta").write_text(text)
    with pytest.raises(BadFamily, match=words):
        read_family(tmp_path / "family.fasta")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.alignment.align", "--local", *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    python_runtime()
    family = tmp_path / "family.fasta"
    family.write_text("".join(f">sp|X|{one.name} text\n{one.residues}\n" for one in SMALL))
    done = run("--family", family, "--check", "--output", tmp_path / "scores.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Biopython agrees on 6 of 6 scores" in done.stdout
    assert done.stdout.splitlines()[1:4] == [
        " 1 LUXC_PHOPO  100",
        " 2 LUXC_VIBHA   72  100",
        " 3 LUXC_ALIFS   76   72  100",
    ]
    rows = (tmp_path / "scores.csv").read_text().splitlines()
    assert rows[0] == "first,second,score"
    assert rows[1:] == [f"{one.first},{one.second},{one.score}" for one in SMALL_SCORES]


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    done = run("--family", tmp_path / "missing")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "missing" in done.stderr
    assert "Traceback" not in done.stderr
