"""Write the vectors in ``tests/vectors/consensus``: ``python -m tests.consensus.make_vectors``.

The vectors are committed and never change: another value is another protocol. `test_vectors` recomputes each
from a second, plain writing of the formulas; this file only calls the code, on values that are fixed here.
"""

from __future__ import annotations

import json
from typing import Any

from tests.consensus import vectors_of_chain, vectors_of_work
from tests.consensus.vector_values import VECTORS, shown


def documents() -> dict[str, Any]:
    """Every file's content by name."""
    made = {
        "weight": vectors_of_work.weight(),
        "certificates": vectors_of_work.certificates(),
        "rewards": vectors_of_work.rewards(),
        "slots": vectors_of_chain.time(),
        "lottery": vectors_of_chain.lottery(),
        "votes": vectors_of_chain.votes(),
        "alarms": vectors_of_chain.alarms(),
        "origins": vectors_of_chain.origins(),
        "finality": vectors_of_chain.finality(),
        "fork_choice": vectors_of_chain.fork_choice(),
        "blocks": vectors_of_chain.blocks(),
        "slashing": vectors_of_chain.slashing(),
    }
    return {name: shown(document) for name, document in made.items()}


def main() -> None:
    VECTORS.mkdir(parents=True, exist_ok=True)
    for name, document in documents().items():
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        (VECTORS / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
