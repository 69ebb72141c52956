"""Values that the vectors share: fixed, and the same on every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from noria.consensus.parameters import DEVNET, mainnet_parameters
from noria.consensus.votes import (
    Checkpoint,
    Vote,
)
from noria.primitives.hashes import blake3
from noria.primitives.keys import BlsSecretKey
from noria.primitives.types import Address, Hash32

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "consensus"
# Networks choose other numbers in time; the formulas, and with these the vectors, stay.
MAINNET = replace(
    mainnet_parameters(
        bond_min_wei=10**22, bond_per_weight_wei=10**9, bond_per_capacity_wei=10**8, floor_min_wei=10**6
    ),
    unit_fuel_max=10**9,
)
NETWORKS = {
    "devnet": replace(
        DEVNET, unit_fuel_max=2 * 10**8, bond_per_weight_wei=10**12, bond_per_capacity_wei=10**11
    ),
    "mainnet": MAINNET,
}


def word(text: str) -> Hash32:
    return blake3(text.encode())


def number(text: str, limit: int) -> int:
    """Some number below a limit that is the same on every run."""
    return int.from_bytes(word(text), "big") % limit


def shown(value: object) -> Any:
    """A value as the files write it: bytes in hexadecimal, integers as decimal text."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, Checkpoint):
        return {"epoch": str(value.epoch), "root": shown(value.root)}
    if isinstance(value, Vote):
        return {"source": shown(value.source), "target": shown(value.target)}
    assert isinstance(value, list | tuple), value
    return [shown(item) for item in value]


SECRETS = [BlsSecretKey.from_seed(word(f"seed {n}")) for n in range(4)]
MINERS = [Address(word(f"miner {n}")[:20]) for n in range(4)]
ROOT = word("genesis")
