"""Documents: what they link to is there, and so is every test that they name."""

import re
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
NAMED = re.compile(r"`((?:tests/[\w/]+\.py::)?(?:test_\w+::)?…?\w*test_\w+…?)`")
DEFINED = re.compile(r"^\s*(?:async )?(?:def|class) (\w+)", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_to_files_lead_somewhere(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_the_readme_is_among_the_documents() -> None:
    assert REPOSITORY / "README.md" in DOCUMENTS


@cache
def defined() -> dict[Path, frozenset[str]]:
    """What each file of tests defines."""
    files = (REPOSITORY / "tests").rglob("*.py")
    return {path: frozenset(DEFINED.findall(path.read_text(encoding="utf-8"))) for path in files}


def is_there(named: str) -> bool:
    """Whether a test is defined: in the file that is named, or in any; ``…`` stands for what was left out."""
    *where, name = named.split("::")
    wanted = re.compile(re.escape(name).replace("…", r"\w*"))
    for path, names in defined().items():
        if where and path != REPOSITORY / where[0] and path.stem != where[0]:
            continue
        if any(wanted.fullmatch(known) for known in names):
            return True
    return not where and any(path.stem == name for path in defined())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_tests_that_are_named_exist(document: Path) -> None:
    named = NAMED.findall(document.read_text(encoding="utf-8"))
    assert [name for name in named if not is_there(name)] == []


def test_a_test_that_is_not_there_is_noticed() -> None:
    assert is_there("tests/test_documents.py::test_a_test_that_is_not_there_is_noticed")
    assert is_there("test_a_test_that_is…")
    assert is_there("test_documents")
    assert not is_there("tests/test_documents.py::test_of_nothing")
    assert not is_there("tests/network/test_peers.py::test_a_test_that_is_not_there_is_noticed")


def test_each_line_of_the_threats_names_a_test() -> None:
    text = (REPOSITORY / "docs" / "threats.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
    rows = [line for line in lines if "shown by" not in line]
    assert len(rows) > 20
    assert [row for row in rows if not NAMED.search(row)] == []
