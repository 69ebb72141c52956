"""What the system contracts hold at genesis, word by word, as if the miners had registered and been credited.

Where each variable lies is in the artefacts; that the words are exactly those which the contracts write
themselves is proven by a test that sends the transactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from noria.execution.genesis import GenesisMiner, GenesisWork
from noria.execution.parameters import ChainParameters
from noria.execution.system_contracts import PROGRAM_REGISTRY, artifact
from noria.primitives.hashes import keccak256
from noria.primitives.types import UINT64_MAX, Hash32, Wei

WORD_BYTES: Final = 32
TREE_SIZE: Final = 65_536
"""Leaves of the Fenwick tree in `MinerRegistry`."""
_KNOWN: Final = 1 << 241
_MARK_BITS: Final = 128
"""Of one mark in `WorkLedger`; two stand in a word."""
_LOW_96: Final = 2**96 - 1

# Places of the fields in MinerRegistry's record of a miner.
_PLACE, _BLS_HEAD, _BLS_TAIL, _BOND = 0, 1, 2, 3
_CAPACITY, _ASK_PRICE, _PEER_ID = 6, 7, 12


class _Words:
    """Storage of one contract under construction; words of zero are left out."""

    def __init__(self, contract: str) -> None:
        self._slots = artifact(contract).storage
        self._words: dict[int, int] = {}

    def slot(self, name: str, *keys: bytes | int) -> int:
        """Return where a variable lies, or what mappings hold under these keys."""
        slot = self._slots[name]
        for key in keys:
            word = _word(key) if isinstance(key, int) else key.rjust(WORD_BYTES, b"\0")
            slot = int.from_bytes(keccak256(_word(slot) + word), "big")
        return slot

    def put(self, slot: int, value: int | bytes) -> None:
        """Write a word; bytes stand on its left."""
        number = value if isinstance(value, int) else int.from_bytes(value.ljust(WORD_BYTES, b"\0"), "big")
        self._words[slot % 2**256] = number

    def get(self, slot: int) -> int:
        """Read a word back."""
        return self._words.get(slot % 2**256, 0)

    def finished(self) -> dict[Hash32, Hash32]:
        """Return the storage as a genesis account has it."""
        return {Hash32(_word(slot)): Hash32(_word(value)) for slot, value in self._words.items() if value}


def registry_storage(miners: Sequence[GenesisMiner]) -> Mapping[Hash32, Hash32]:
    """Return the storage of `MinerRegistry` as if these had registered before epoch 0, in this order."""
    words = _Words("MinerRegistry")
    for index, miner in enumerate(miners):
        place = index + 1
        record = words.slot("_miners", miner.address)
        words.put(record + _PLACE, place)
        words.put(record + _BLS_HEAD, miner.bls_key[:32])
        words.put(record + _BLS_TAIL, miner.bls_key[32:])
        words.put(record + _BOND, miner.bond)
        words.put(record + _CAPACITY, miner.capacity)
        words.put(record + _ASK_PRICE, miner.ask_price)
        words.put(record + _PEER_ID, len(miner.peer_id))
        for start in range(0, len(miner.peer_id), WORD_BYTES):
            word = miner.peer_id[start : start + WORD_BYTES]
            words.put(record + _PEER_ID + 1 + start // WORD_BYTES, word)
        words.put(words.slot("key_owner", keccak256(miner.bls_key)), int.from_bytes(miner.address, "big"))
        words.put(words.slot("_at") + index, int.from_bytes(miner.address, "big"))
        tree = words.slot("_tree")
        while place <= TREE_SIZE:
            words.put(tree + place, words.get(tree + place) + miner.capacity)
            place += place & -place
    words.put(words.slot("indices"), len(miners))
    return words.finished()


def ledger_storage(parameters: ChainParameters, work: Sequence[GenesisWork]) -> Mapping[Hash32, Hash32]:
    """Return the storage of `WorkLedger` with this work credited in full in epoch 0, in this order.

    It was not priced, so it says nothing about the floor price.
    """
    words = _Words("WorkLedger")
    words.put(words.slot("floor_price"), parameters.floor_min_wei)
    for batch in work:
        head = words.slot("_heads", batch.miner)
        before = words.get(head)
        line = before & UINT64_MAX
        cumulative = (before >> 128 & _LOW_96) + batch.weight
        pair = words.slot("_marks", batch.miner, line // 2)
        words.put(words.slot("_roots", batch.miner, line), batch.root)
        words.put(pair, words.get(pair) | cumulative << _MARK_BITS * (line % 2))
        words.put(head, line + 1 | 1 << 64 | cumulative << 128)
        words.put(words.slot("_epoch_marks", batch.miner, 0), cumulative)
        stored = words.slot("_genesis", batch.root)
        words.put(stored, int.from_bytes(batch.miner, "big"))
        words.put(stored + 1, batch.job)
        words.put(
            stored + 2,
            _KNOWN
            | batch.k << 208
            | batch.first_index << 144
            | batch.count << 128
            | batch.fuel << 64
            | batch.weight,
        )
    return words.finished()


def pool_storage(vault: Wei) -> Mapping[Hash32, Hash32]:
    """Return the storage of `RewardPool` with this vault, which its balance must hold."""
    words = _Words("RewardPool")
    words.put(words.slot("vault"), vault)
    return words.finished()


def program_storage(programs: Sequence[Hash32]) -> Mapping[Hash32, Hash32]:
    """Return the storage of `ProgramRegistry` with these pinned: they are its own, without royalty."""
    words = _Words("ProgramRegistry")
    for program in programs:
        words.put(words.slot("_programs", program), int.from_bytes(PROGRAM_REGISTRY, "big"))
    return words.finished()


def _word(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES, "big")
