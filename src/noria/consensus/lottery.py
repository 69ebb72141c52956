"""Who may produce a block: randomness, the verifiable draw, and what it wins (protocol 4.1, 4.4, 4.5).

Randomness runs on in one word that every block in the first two thirds of an epoch stirs:

- ``R = η(0) = H("noria/eta/1" ‖ genesis_root)`` at genesis;
- each such block: ``R ← H("noria/eta/1" ‖ R ‖ vrf_proof)``;
- the first block of an epoch e > 0 fixes ``η(e) = H("noria/eta/1" ‖ R ‖ e)`` before it stirs R itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from noria.consensus.parameters import ChainParameters
from noria.consensus.slots import epoch_of, feeds_randomness
from noria.primitives.hashes import blake3
from noria.primitives.types import BlsSignature, Hash32

ETA_TAG: Final = b"noria/eta/1"
VRF_TAG: Final = b"noria/vrf/1"
LOT_TAG: Final = b"noria/lot/1"
DRAW_TAG: Final = b"noria/draw/1"
TIE_TAG: Final = b"noria/tie/1"
RANDAO_TAG: Final = b"noria/randao/1"


@dataclass(frozen=True, slots=True)
class Randomness:
    """The lottery's randomness after a block (protocol 4.4).

    Attributes
    ----------
    epoch
        The block's epoch.
    eta
        η of that epoch.
    running
        R: what later epochs' η come from.
    """

    epoch: int
    eta: Hash32
    running: Hash32


def genesis_randomness(genesis_root: Hash32) -> Randomness:
    """Return the randomness at genesis: ``η(0) = H("noria/eta/1" ‖ genesis_root)`` (protocol 4.4)."""
    eta = blake3(ETA_TAG + genesis_root)
    return Randomness(0, eta, eta)


def eta_for(parent: Randomness, epoch: int) -> Hash32:
    """Return η of an epoch on the chain that ends in a parent block (protocol 4.4).

    Parameters
    ----------
    parent
        Randomness after the parent.
    epoch
        The child's epoch, not before the parent's.
    """
    if epoch == parent.epoch:
        return parent.eta
    if epoch < parent.epoch:
        raise ValueError(f"epoch {epoch} is before the parent's epoch {parent.epoch}")
    return blake3(ETA_TAG + parent.running + epoch.to_bytes(8, "big"))


def after_block(
    parameters: ChainParameters, parent: Randomness, slot: int, vrf_proof: BlsSignature
) -> Randomness:
    """Return the randomness after a block (protocol 4.4)."""
    epoch = epoch_of(parameters, slot)
    running = parent.running
    if feeds_randomness(parameters, slot):
        running = blake3(ETA_TAG + running + vrf_proof)
    return Randomness(epoch, eta_for(parent, epoch), running)


def vrf_message(genesis_root: Hash32, eta: Hash32, slot: int) -> bytes:
    """Return what a miner signs to draw its lot for a slot (protocol 4.4)."""
    return VRF_TAG + genesis_root + eta + slot.to_bytes(8, "big")


def lot(vrf_proof: BlsSignature) -> int:
    """Return the 256-bit number that a proof draws (protocol 4.4)."""
    return int.from_bytes(blake3(LOT_TAG + vrf_proof), "big")


def wins(parameters: ChainParameters, vrf_proof: BlsSignature, weight: int, total_weight: int) -> bool:
    """Tell whether a proof may produce its slot's block (protocol 4.4).

    ``lot · W · F_DEN < 2^256 · F_NUM · w``: linear in the weight, so that splitting an identity gains
    nothing.
    """
    return lot(vrf_proof) * total_weight * parameters.win_denominator < (
        weight * parameters.win_numerator << 256
    )


def draw(vrf_proof: BlsSignature, weight: int) -> int:
    """Return x, the number below the proposer's weight that names what it must show (protocol 4.5)."""
    return int.from_bytes(blake3(DRAW_TAG + vrf_proof), "big") % weight


def tie_break(vrf_proof: BlsSignature) -> Hash32:
    """Return what decides between chains of equal length: the lower wins (protocol 4.7)."""
    return blake3(TIE_TAG + vrf_proof)


def prev_randao(parent_prev_randao: Hash32, vrf_proof: BlsSignature) -> Hash32:
    """Return a block's ``prevRandao`` (protocol 4.1)."""
    return blake3(RANDAO_TAG + parent_prev_randao + vrf_proof)
