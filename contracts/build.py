"""Compile the system contracts into ``src/noria/execution/artifacts``, one JSON file each.

The artefacts are committed, so that a node needs no compiler; ``--check`` proves that the compiler makes
exactly them from the sources.
"""

import argparse
import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).resolve().parent
ARTIFACTS = CONTRACTS.parent / "src" / "noria" / "execution" / "artifacts"
COMPILER = "0.4.3"


def compile_contract(source: Path) -> dict[str, Any]:
    """Return the artefact of one contract; the settings come from the pragmas at its top."""
    from vyper.compiler import compile_from_file_input
    from vyper.compiler.input_bundle import FileInput

    text = source.read_text(encoding="utf-8")
    # The path is relative: nothing of this machine may reach the output.
    path = Path(source.name)
    output: dict[str, Any] = compile_from_file_input(
        FileInput(0, path, path, text), output_formats=["abi", "bytecode_runtime", "layout", "settings_dict"]
    )
    settings, layout = output["settings_dict"], output["layout"]
    immutables = sorted(layout.get("code_layout", {}).items(), key=lambda item: item[1]["offset"])
    # They are appended to the code in this order, a word each.
    assert [item["offset"] for _, item in immutables] == [32 * i for i in range(len(immutables))]
    return {
        "name": source.stem,
        "abi": output["abi"],
        "runtime_bytecode": output["bytecode_runtime"],
        "immutables": [name for name, _ in immutables],
        "storage": {name: item["slot"] for name, item in layout.get("storage_layout", {}).items()},
        "compiler": f"vyper {COMPILER}",
        "settings": {"evm_version": settings["evm_version"], "optimize": settings["optimize"]},
        "source_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def encode(artifact: dict[str, Any]) -> str:
    """Return the text of an artefact file."""
    return json.dumps(artifact, indent=2) + "\n"


def main() -> int:
    """Write the artefacts, or compare them with ``--check``; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail on any difference")
    check: bool = parser.parse_args().check

    if (installed := version("vyper")) != COMPILER:
        print(f"vyper {installed} is installed, {COMPILER} is needed: make build", file=sys.stderr)
        return 1
    sources = sorted(CONTRACTS.glob("*.vy"))
    stale = {path.name for path in ARTIFACTS.glob("*.json")} - {f"{source.stem}.json" for source in sources}
    for name in sorted(stale):
        if check:
            print(f"artefact {name} has no contract: delete it", file=sys.stderr)
            return 1
        (ARTIFACTS / name).unlink()
    for source in sources:
        target = ARTIFACTS / f"{source.stem}.json"
        text = encode(compile_contract(source))
        if target.exists() and target.read_text(encoding="utf-8") == text:
            print(f"{source.name}: up to date")
        elif check:
            print(f"{source.name}: its artefact is out of date: make contracts", file=sys.stderr)
            return 1
        else:
            ARTIFACTS.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            print(f"{source.name}: compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
