"""The contracts that are part of the protocol: where they live, their code, and the call that begins a block.

Those of the protocol are written in Vyper (``contracts/``) and shipped compiled; the contracts of EIP-4788
and EIP-2935 are taken over byte for byte, so that whatever reads them on Ethereum reads them here.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from noria.execution.parameters import ChainParameters
from noria.primitives.types import Address

_NAMESPACE: Final = b"Noria" + bytes(13)
"""First 18 bytes of every address that the protocol sets aside for itself; the last two are a number."""

BURNED: Final = Address(_NAMESPACE + b"\x00\x00")
"""Where contracts send wei that nobody shall have again. It has no key, and no code can come there."""

CONSENSUS: Final = Address(_NAMESPACE + b"\x00\x01")
"""What block validity depends on."""

MINER_REGISTRY: Final = Address(_NAMESPACE + b"\x00\x02")
"""Miners, their bonds and capacities."""

WORK_LEDGER: Final = Address(_NAMESPACE + b"\x00\x03")
"""Credited work, and the floor price."""

JOB_MARKET: Final = Address(_NAMESPACE + b"\x00\x04")
"""Jobs and their money."""

SETTLEMENT: Final = Address(_NAMESPACE + b"\x00\x05")
"""Batches of receipts; who credits work and pays fees."""

COURT: Final = Address(_NAMESPACE + b"\x00\x06")
"""Reserved for challenges; who voids batches and penalises."""

PROGRAM_REGISTRY: Final = Address(_NAMESPACE + b"\x00\x07")
"""Published programs and their royalties."""

REWARD_POOL: Final = Address(_NAMESPACE + b"\x00\x08")
"""What blocks earn."""

OWN_CONTRACTS: Final = {
    "Consensus": CONSENSUS,
    "MinerRegistry": MINER_REGISTRY,
    "WorkLedger": WORK_LEDGER,
    "JobMarket": JOB_MARKET,
    "Settlement": SETTLEMENT,
    "ProgramRegistry": PROGRAM_REGISTRY,
    "RewardPool": REWARD_POOL,
}
"""By the name of their source."""

BEACON_ROOTS: Final = Address(bytes.fromhex("000f3df6d732807ef1319fb7b8bb8522d0beac02"))
"""EIP-4788: parent beacon block roots by timestamp."""

BLOCK_HASHES: Final = Address(bytes.fromhex("0000f90827f1c53a10cb7a02335b175320002935"))
"""EIP-2935: hashes of the last 8191 blocks."""

BLAKE3_PRECOMPILE: Final = Address(_NAMESPACE + b"\x01\x01")
"""BLAKE3 of the input, 32 bytes; 60 gas + 6 per word."""

BLS_VERIFY_PRECOMPILE: Final = Address(_NAMESPACE + b"\x01\x02")
"""Verify ``public key (48) ‖ signature (96) ‖ message``; 120,000 gas + 6 per message word."""

SYSTEM_CALLER: Final = Address(bytes.fromhex("fffffffffffffffffffffffffffffffffffffffe"))
"""Sender of the protocol's own calls. Nobody holds its key."""

PREV_RANDAO_HISTORY: Final = 8192
"""Blocks whose prevRandao `Consensus` answers, the current one included."""

_BEACON_ROOTS_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604d57602036146024575f5ffd5b5f35801560495762001fff"
    "810690815414603c575f5ffd5b62001fff01545f5260205ff35b5f5ffd5b62001fff42064281555f359062001fff015500"
)
_BLOCK_HASHES_CODE: Final = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff81"
    "430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
_BEGIN_BLOCK_SELECTOR: Final = bytes.fromhex("31001efc")


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A compiled system contract, as ``contracts/build.py`` writes it."""

    name: str
    abi: list[dict[str, Any]]
    runtime_bytecode: str
    """Hexadecimal with ``0x``."""
    immutables: list[str]
    """Names, in the order in which their words follow the code."""
    storage: dict[str, int]
    """Slots of the variables."""
    compiler: str
    settings: dict[str, str]
    source_sha256: str

    @property
    def code(self) -> bytes:
        """Runtime code."""
        return bytes.fromhex(self.runtime_bytecode[2:])


@cache
def artifact(name: str) -> Artifact:
    """Return the compiled contract ``name``, e.g. ``"Consensus"``.

    Raises
    ------
    FileNotFoundError
        The package ships no such contract.
    """
    data = resources.files("noria.execution").joinpath("artifacts", f"{name}.json").read_bytes()
    return msgspec.json.decode(data, type=Artifact)


@dataclass(frozen=True, slots=True)
class SystemContract:
    """A contract that stands at a fixed address from genesis on."""

    name: str
    address: Address
    code: bytes


def genesis_contracts(parameters: ChainParameters, genesis_seconds: int) -> tuple[SystemContract, ...]:
    """Return the contracts that every genesis carries, each with nonce 1.

    Parameters
    ----------
    parameters
        The chain's; what a contract needs of them is part of its code.
    genesis_seconds
        When slot 0 starts, Unix seconds.
    """
    epoch_seconds = parameters.slot_seconds * parameters.epoch_slots
    values = {
        "GENESIS_SECONDS": genesis_seconds,
        "SLOT_SECONDS": parameters.slot_seconds,
        "EPOCH_SLOTS": parameters.epoch_slots,
        "EPOCH_SECONDS": epoch_seconds,
        "LEAK_EPOCHS": parameters.leak_epochs,
        "UNBONDING_EPOCHS": parameters.unbonding_epochs,
        "JAIL_EPOCHS": parameters.jail_epochs,
        "BOND_MIN": parameters.bond_min_wei,
        "BOND_PER_CAPACITY": parameters.bond_per_capacity_wei,
        "MINERS_MAX": parameters.miners_max,
        "WINDOW_EPOCHS": parameters.window_epochs,
        "FEE_BASIS_POINTS": parameters.fee_basis_points,
        "FLOOR_MIN": parameters.floor_min_wei,
        "POOL_RATE": parameters.pool_rate,
        "CHALLENGE_BLOCKS": parameters.challenge_blocks,
        "CLOSE_BLOCKS": parameters.close_blocks,
    }
    own = []
    for name, address in OWN_CONTRACTS.items():
        compiled = artifact(name)
        words = [values[immutable].to_bytes(32, "big") for immutable in compiled.immutables]
        own.append(SystemContract(name, address, compiled.code + b"".join(words)))
    return (
        *own,
        SystemContract("EIP-4788", BEACON_ROOTS, _BEACON_ROOTS_CODE),
        SystemContract("EIP-2935", BLOCK_HASHES, _BLOCK_HASHES_CODE),
    )


def is_reserved(address: bytes) -> bool:
    """Whether only the protocol may decide what stands at ``address``."""
    return address.startswith(_NAMESPACE) or address in (BEACON_ROOTS, BLOCK_HASHES, SYSTEM_CALLER)


def begin_block_calldata(prev_randao: bytes) -> bytes:
    """Return the input of the block-start call to `CONSENSUS` on a development chain.

    Parameters
    ----------
    prev_randao
        The block's prevRandao, 32 bytes, the same as in its header.
    """
    if len(prev_randao) != 32:
        raise ValueError(f"prev_randao has {len(prev_randao)} bytes, 32 are needed")
    return _BEGIN_BLOCK_SELECTOR + prev_randao


def block_start_calls(prev_randao: bytes) -> tuple[tuple[Address, bytes], ...]:
    """Return the (contract, input) calls that start a block of a development chain, in order.

    Those of EIP-4788 and EIP-2935 come before them and are made by the engine itself.
    """
    return ((CONSENSUS, begin_block_calldata(prev_randao)),)
