"""Renews the pinned ids of a runtime after a change of the sources in it.

``python -m noria.work.runtimes.pin NAME [WHEEL]``

A new id is a new program: results of the old one no longer count for it.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from noria.work.ids import program_id
from noria.work.runtimes.catalogue import guest_hash, pinned
from noria.work.runtimes.local import fetched


def main() -> None:
    """Take the snapshot and write down what it is."""
    name = sys.argv[1]
    wheel = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as temporary:
        data = fetched(pinned(name), Path(temporary), lambda stage, part: print(stage), wheel)
    path = Path(str(files(__package__).joinpath(f"{name}.toml")))
    text = path.read_text("utf-8")
    for key, value in (("program_id", program_id(data)), ("guest", guest_hash())):
        text = re.sub(rf'(?m)^{key} = "[^"]*"$', f'{key} = "0x{value.hex()}"', text)
    path.write_text(text, "utf-8")
    print(f"{len(data)} bytes, program 0x{program_id(data).hex()}")


if __name__ == "__main__":
    main()
