"""Which chain this is: one hash over everything that its nodes must agree on beforehand (protocol 1, 4.3, 9).

Work that a chain begins with is part of its genesis state, and a receipt names its chain: so there are two
roots. The *draft root* covers all that is decided before there is a state; receipts and proofs of possession
that go into the genesis state carry it. The *genesis root* covers that and the state, and stands in
everything afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from noria.consensus.finality import FinalityState, genesis_finality
from noria.consensus.lottery import Randomness, genesis_randomness
from noria.consensus.parameters import ChainParameters
from noria.primitives import rlp
from noria.primitives.hashes import blake3
from noria.primitives.rlp import integer_to_bytes
from noria.primitives.types import ADDRESS_BYTES, HASH_BYTES, UINT64_MAX, Address, Hash32
from noria.work.ids import ProgramId

DRAFT_TAG: Final = b"noria/draft/1"
GENESIS_TAG: Final = b"noria/genesis/1"
NAME_BYTES_MAX: Final = 64


class InvalidGenesis(ValueError):
    """A genesis that no chain can have: one line with what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainDraft:
    """Everything about a chain that is decided before it has a state.

    Parameters
    ----------
    name
        For people, ASCII.
    chain_id
        EIP-155 id.
    genesis_seconds
        When slot 0 starts, Unix seconds; the genesis payload's timestamp.
    parameters
        Protocol 9.
    hardforks
        Ethereum's rules by activation time, as in the chain specification.
    instrumenter_version
        Of the fuel rules (protocol 2).
    pinned_programs
        Programs that carry weight (protocol 2.2, 3).
    grants
        Genesis weights by miner, fuel (protocol 4.3).

    Raises
    ------
    InvalidGenesis
        Where a field does not fit.
    """

    name: str
    chain_id: int
    genesis_seconds: int
    parameters: ChainParameters
    hardforks: tuple[tuple[str, int], ...]
    instrumenter_version: int
    pinned_programs: frozenset[ProgramId]
    grants: Mapping[Address, int]

    def __post_init__(self) -> None:
        if not self.name.isascii() or not 0 < len(self.name) <= NAME_BYTES_MAX:
            raise InvalidGenesis(f"name: {self.name[:80]!a} is not 1 to {NAME_BYTES_MAX} ASCII characters")
        for field in ("chain_id", "genesis_seconds", "instrumenter_version"):
            if not 0 <= getattr(self, field) <= UINT64_MAX:
                raise InvalidGenesis(f"{field}: {getattr(self, field)} does not fit 64 bits")
        for miner, grant in self.grants.items():
            if len(miner) != ADDRESS_BYTES or not 0 < grant <= UINT64_MAX:
                raise InvalidGenesis(
                    f"grants: {grant} for 0x{miner.hex()} is not 1 to 2^64 - 1 for an address of 20 bytes"
                )
        if len(self.grants) > self.parameters.miners_max:
            raise InvalidGenesis(
                f"grants: {len(self.grants)}, at most {self.parameters.miners_max} are allowed"
            )


@dataclass(frozen=True, slots=True)
class Genesis:
    """Everything that makes a chain this one and no other.

    Parameters
    ----------
    draft
        What was decided before there was a state.
    payload_hash
        Ethereum's hash of the genesis header. It covers the state root and with it every account, contract,
        miner, bond and credited batch that the chain begins with.
    state_root
        That state root, so that a node can say which of the two differs.

    Raises
    ------
    InvalidGenesis
        Where a hash is not 32 bytes.
    """

    draft: ChainDraft
    payload_hash: Hash32
    state_root: Hash32

    def __post_init__(self) -> None:
        for field in ("payload_hash", "state_root"):
            if len(getattr(self, field)) != HASH_BYTES:
                raise InvalidGenesis(
                    f"{field}: has {len(getattr(self, field))} bytes, {HASH_BYTES} are needed"
                )


def draft_root(draft: ChainDraft) -> Hash32:
    """Return what of the genesis root is known before the genesis state (protocol 1, 9).

    ``H("noria/draft/1" ‖ rlp(name, chain_id, genesis_seconds, [parameters…], [[hardfork, time]…],
    instrumenter_version, [pinned program…], [[miner, grant]…]))``, programs and grants in ascending order,
    parameters in the order of their declaration.
    """
    return blake3(
        DRAFT_TAG
        + rlp.encode(
            [
                draft.name.encode(),
                integer_to_bytes(draft.chain_id),
                integer_to_bytes(draft.genesis_seconds),
                [integer_to_bytes(number) for number in draft.parameters.numbers()],
                [[name.encode(), integer_to_bytes(time)] for name, time in draft.hardforks],
                integer_to_bytes(draft.instrumenter_version),
                list[rlp.RlpItem](sorted(draft.pinned_programs)),
                [[miner, integer_to_bytes(draft.grants[miner])] for miner in sorted(draft.grants)],
            ]
        )
    )


def genesis_root(genesis: Genesis) -> Hash32:
    """Return the root that stands in every message of the chain and is the first block's parent (protocol 1).

    ``H("noria/genesis/1" ‖ draft_root ‖ payload_hash ‖ state_root)``
    """
    return blake3(GENESIS_TAG + draft_root(genesis.draft) + genesis.payload_hash + genesis.state_root)


def genesis_states(root: Hash32) -> tuple[Randomness, FinalityState]:
    """Return the lottery's and finality's state after genesis (protocol 4.4, 4.7)."""
    return genesis_randomness(root), genesis_finality(root)
