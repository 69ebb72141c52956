"""Tables: on the screen, and in ``docs/benchmarks.md`` with the machine and the date."""

from __future__ import annotations

import datetime
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers import ROOT

DOCUMENT: Final = ROOT / "docs" / "benchmarks.md"
LOAD_BEFORE: Final = os.getloadavg()[0]
"""Processes that wanted to run in the minute before; the more, the less the numbers are worth."""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of text cells; the first column is left-aligned, the others right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        """For the screen."""
        widths = [max(len(row[i]) for row in (self.columns, *self.rows)) for i in range(len(self.columns))]
        lines = [self.title, "-" * len(self.title)]
        for row in (self.columns, *self.rows):
            cells = [
                c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)

    def markdown(self) -> str:
        """For the document."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [f"### {self.title}", ""]
        lines += ["| " + " | ".join(row) + " |" for row in (self.columns, rule, *self.rows)]
        return "\n".join(lines)


def machine() -> str:
    """One line about this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    model = found.group(1) if found else platform.processor() or platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def publish(section: str, tables: Sequence[Table], notes: Sequence[str], *, record: bool) -> None:
    """Print the tables; with ``record`` also replace this program's section of ``docs/benchmarks.md``.

    Parameters
    ----------
    section
        Name of the section, one per program.
    tables
        What was measured.
    notes
        Sentences about the circumstances, below the tables.
    record
        Write to the document as well.
    """
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    circumstances = f"{machine()}; load average {LOAD_BEFORE:.1f} before the run"
    print(f"\n{circumstances}, {today}\n")
    for table in tables:
        print(table.text(), end="\n\n")
    for note in notes:
        print(note)
    if not record:
        return
    parts = [f"Measured {today} on {circumstances}.", *(table.markdown() for table in tables), *notes]
    begin, end = f"<!-- {section}: begin -->", f"<!-- {section}: end -->"
    text = DOCUMENT.read_text()
    if begin not in text or end not in text:
        raise SystemExit(f"{DOCUMENT} has no section {section!r}")
    before, rest = text.split(begin, 1)
    after = rest.split(end, 1)[1]
    DOCUMENT.write_text(before + begin + "\n" + "\n\n".join(parts) + "\n" + end + after)
    print(f"\nwritten to {DOCUMENT.relative_to(ROOT)}")
