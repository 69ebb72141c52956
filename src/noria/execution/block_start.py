"""What a drawn block tells `Consensus` at its start (protocol 4.1).

Every node derives it from the block and the state after its parent, and compares what follows from it with
the state root; so it is not part of the block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode

from noria.execution.system_contracts import CONSENSUS
from noria.primitives.hashes import keccak256
from noria.primitives.types import BLS_SIGNATURE_BYTES, HASH_BYTES, Address, BlsSignature, Hash32

GUILTY_MAX: Final = 16
"""Most miners that one block punishes; evidence against more of them stays good for later blocks."""
SLEEPER_WORDS_MAX: Final = 128
"""Most words in which miners fall asleep at once; those above follow in the next epoch."""
WORD_BITS: Final = 256
WORDS_MAX: Final = 256
_TYPES: Final = (
    "bytes32",
    "bytes",
    "bytes32[]",
    "uint256[][]",
    "(uint256,uint256)[]",
    "(uint256,uint256[],bool)[]",
    "address[]",
)
_SELECTOR: Final = keccak256(f"begin_slot({','.join(_TYPES)})".encode())[:4]


@dataclass(frozen=True, slots=True)
class Ballot:
    """The votes of a block for one target epoch.

    Parameters
    ----------
    epoch
        The target's.
    voters
        Bit i: the miner with index i in `MinerRegistry` has voted.
    justified
        Whether its target has more than two thirds of the weight with these votes, or had before.
    """

    epoch: int
    voters: int
    justified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotStart:
    """What a drawn block tells `Consensus`, checked by the node.

    Raises
    ------
    ValueError
        Where a field does not fit.
    """

    prev_randao: Hash32
    """Of the block."""
    vrf_proof: BlsSignature
    """Which won the slot."""
    snapshot_roots: tuple[Hash32, ...] = ()
    """In the first block of an epoch e after one of epoch p: of the snapshots ``max(p + 2, e - 1)`` to
    ``e + 1``; in the chain's first block ``max(0, e - 1)`` to ``e + 1``."""
    members: tuple[int, ...] = ()
    """In the first block of an epoch e after one of epoch p: who may vote in ``max(p + 1, e - 1)`` to e; bits
    by index."""
    fallen_asleep: int = 0
    """In the first block of an epoch: `ConsensusState.fallen_asleep` of the parent's state."""
    votes: tuple[Ballot, ...] = ()
    """At most one for each of the two latest epochs."""
    guilty: tuple[Address, ...] = ()
    """Whom the evidence convicts, ascending; those after the first `GUILTY_MAX` are left for later blocks."""

    def __post_init__(self) -> None:
        """Check lengths."""
        if len(self.prev_randao) != HASH_BYTES:
            raise ValueError(f"prev_randao has {len(self.prev_randao)} bytes, {HASH_BYTES} are needed")
        if len(self.vrf_proof) != BLS_SIGNATURE_BYTES:
            raise ValueError(f"vrf_proof has {len(self.vrf_proof)} bytes, {BLS_SIGNATURE_BYTES} are needed")

    def calldata(self) -> bytes:
        """Return the input of the call to `CONSENSUS`."""
        values = (
            self.prev_randao,
            self.vrf_proof,
            self.snapshot_roots,
            [bit_words(bits) for bits in self.members],
            [(w, word) for w, word in enumerate(bit_words(self.fallen_asleep)) if word][:SLEEPER_WORDS_MAX],
            [(ballot.epoch, bit_words(ballot.voters), ballot.justified) for ballot in self.votes],
            self.guilty[:GUILTY_MAX],
        )
        return _SELECTOR + encode(_TYPES, values)

    def calls(self) -> tuple[tuple[Address, bytes], ...]:
        """Return the (contract, input) calls that the protocol makes at the start of the block, in order."""
        return ((CONSENSUS, self.calldata()),)


def bit_words(bits: int) -> list[int]:
    """Cut a set of indices into words as the contracts keep them: bit i of word w is index 256·w + i.

    Raises
    ------
    ValueError
        Where an index is beyond 65,535.
    """
    if not 0 <= bits < 1 << WORD_BITS * WORDS_MAX:
        raise ValueError(f"a set of indices up to {bits.bit_length()} has more than {WORD_BITS * WORDS_MAX}")
    data = bits.to_bytes((bits.bit_length() + WORD_BITS - 1) // WORD_BITS * 32, "little")
    return [int.from_bytes(data[at : at + 32], "little") for at in range(0, len(data), 32)]
