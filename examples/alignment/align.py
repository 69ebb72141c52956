"""Compare all proteins of a family: Smith–Waterman in plain Python, each pair a task in the sandbox.

    python -m examples.alignment.align
    python -m examples.alignment.align --local --check

Nothing here is made for Noria but one line: its executor stands where `ProcessPoolExecutor` would.
"""

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from examples.where import add_options, chosen_executor, stop_on_errors

HERE = Path(__file__).resolve().parent
FAMILY = HERE / "luxc.fasta"
GAP_OPEN, GAP_EXTEND = 12, 1
"""BLAST's choice for BLOSUM62: a gap of n residues costs 11 + n."""
MANY_RESIDUES = 5000


class BadFamily(ValueError):
    """A file that holds no proteins to compare; the message says why."""


@dataclass(frozen=True, slots=True)
class Protein:
    """A protein by the name of its UniProt entry."""

    name: str
    residues: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How well two proteins align."""

    first: str
    second: str
    score: int


def read_matrix(path: Path) -> dict[str, dict[str, int]]:
    """Read a substitution matrix as NCBI writes it."""
    rows = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    columns, scores = rows[0], rows[1:]
    return {row[0]: dict(zip(columns, map(int, row[1:]), strict=True)) for row in scores}


def read_family(path: Path) -> list[Protein]:
    """Read proteins in FASTA format.

    Raises
    ------
    BadFamily
        If there are none, or something in the file is no protein.
    """
    proteins: list[Protein] = []
    for record in path.read_text().split(">")[1:]:
        head, _, body = record.partition("\n")
        residues = "".join(body.split()).upper()
        name = head.split("|")[-1].split()[0] if head.split() else ""
        unknown = sorted(set(residues) - set(BLOSUM62))
        if not name or not residues or unknown:
            what = f"unknown residues {' '.join(unknown)}" if unknown else "no name or no residues"
            raise BadFamily(
                f"{path.name}: protein {len(proteins) + 1} has {what}: FASTA of proteins is needed"
            )
        if len(residues) > MANY_RESIDUES:
            raise BadFamily(
                f"{path.name}: {name} has {len(residues)} residues, and at most {MANY_RESIDUES} are compared"
            )
        proteins.append(Protein(name, residues))
    if not proteins:
        raise BadFamily(f"{path.name} holds no protein: FASTA of proteins is needed")
    return proteins


BLOSUM62 = read_matrix(HERE / "blosum62.txt")


def local_score(a: str, b: str) -> int:
    """Score of the best local alignment with affine gaps (Smith and Waterman 1981, Gotoh 1982)."""
    width = len(b)
    ends_here = [0] * (width + 1)
    gap_in_b = [-GAP_OPEN] * (width + 1)
    best = 0
    for residue in a:
        scores = BLOSUM62[residue]
        diagonal = left = 0
        gap_in_a = -GAP_OPEN
        for j in range(width):
            above = ends_here[j + 1]
            down = gap_in_b[j + 1] - GAP_EXTEND
            if above - GAP_OPEN > down:
                down = above - GAP_OPEN
            gap_in_b[j + 1] = down
            gap_in_a -= GAP_EXTEND
            if left - GAP_OPEN > gap_in_a:
                gap_in_a = left - GAP_OPEN
            left = diagonal + scores[b[j]]
            if down > left:
                left = down
            if gap_in_a > left:
                left = gap_in_a
            if left < 0:
                left = 0
            elif left > best:
                best = left
            ends_here[j + 1] = left
            diagonal = above
    return best


def compare(first: Protein, second: Protein) -> Comparison:
    """The task: what one unit of work does."""
    return Comparison(first.name, second.name, local_score(first.residues, second.residues))


def compare_all(proteins: Sequence[Protein], executor: Executor) -> list[Comparison]:
    """Compare every protein with itself and every other."""
    pairs = list(combinations_with_replacement(proteins, 2))
    return list(executor.map(compare, *zip(*pairs, strict=True)))


def similarities(comparisons: Sequence[Comparison]) -> dict[tuple[str, str], float]:
    """Score of each pair by the lower of the scores that its proteins have with themselves."""
    own = {one.first: one.score for one in comparisons if one.first == one.second}
    found = {}
    for one in comparisons:
        ratio = one.score / min(own[one.first], own[one.second])
        found[one.first, one.second] = found[one.second, one.first] = ratio
    return found


def biopython_score(first: Protein, second: Protein) -> int:
    """The same by Biopython's aligner, in C and with its own copy of the matrix."""
    from Bio.Align import PairwiseAligner, substitution_matrices

    aligner = PairwiseAligner(mode="local", open_gap_score=-GAP_OPEN, extend_gap_score=-GAP_EXTEND)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    return int(aligner.score(first.residues, second.residues))


def check(proteins: Sequence[Protein], comparisons: Sequence[Comparison]) -> int:
    """Count the scores on which Biopython does not agree."""
    known = {protein.name: protein for protein in proteins}
    wrong = 0
    for one in comparisons:
        expected = biopython_score(known[one.first], known[one.second])
        if one.score != expected:
            wrong += 1
            print(f"{one.first} with {one.second}: {one.score}, but Biopython says {expected}")
    return wrong


def table(names: Sequence[str], similar: dict[tuple[str, str], float]) -> str:
    """Write how similar all are to each other, in percent."""
    width = max(map(len, names))
    rows = [" " * (width + 3) + "".join(f"{i:>5}" for i in range(1, len(names) + 1))]
    for i, name in enumerate(names, start=1):
        cells = "".join(f"{100 * similar[name, other]:>5.0f}" for other in names[:i])
        rows.append(f"{i:>2} {name:<{width}}{cells}")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="align", description="Compare all proteins of a family.")
    parser.add_argument("--family", type=Path, default=FAMILY, help="proteins in FASTA format")
    parser.add_argument("--output", type=Path, help="write all scores to this CSV file")
    parser.add_argument("--check", action="store_true", help="compare the scores with Biopython's")
    add_options(parser)
    chosen = parser.parse_args(arguments)
    proteins = read_family(chosen.family)
    began = time.monotonic()
    with chosen_executor(chosen) as executor:
        comparisons = compare_all(proteins, executor)
    seconds = time.monotonic() - began
    similar = similarities(comparisons)
    names = [protein.name for protein in proteins]
    print(table(names, similar))
    for name in names:
        others = [(similar[name, other], other) for other in names if other != name]
        if others:
            closeness, other = max(others)
            print(f"{name:<18} is closest to {other:<18} {100 * closeness:5.1f} %")
    print(f"{len(comparisons)} comparisons in {seconds:.1f} s")
    if chosen.output is not None:
        with chosen.output.open("w", newline="") as stream:
            csv.writer(stream).writerows(
                [("first", "second", "score"), *((c.first, c.second, c.score) for c in comparisons)]
            )
    if chosen.check:
        wrong = check(proteins, comparisons)
        print(f"Biopython agrees on {len(comparisons) - wrong} of {len(comparisons)} scores")
        return min(wrong, 1)
    return 0


if __name__ == "__main__":
    with stop_on_errors(BadFamily):
        sys.exit(main(sys.argv[1:]))
