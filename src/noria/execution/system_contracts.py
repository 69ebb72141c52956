"""The contracts that are part of the protocol: where they live, their code, and the calls made to them.

`Consensus` is written in Vyper (``contracts/``) and shipped compiled; the contracts of EIP-4788 and EIP-2935
are taken over byte for byte, so that whatever reads them on Ethereum reads them here.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import msgspec

from noria.primitives.types import Address

_NAMESPACE: Final = b"Noria" + bytes(13)
"""First 18 bytes of every address that the protocol sets aside for itself; the last two are a number."""

CONSENSUS: Final = Address(_NAMESPACE + b"\x00\x01")
"""What block validity depends on; today the prevRandao history."""

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
    compiler: str
    settings: dict[str, str]
    source_sha256: str

    @property
    def code(self) -> bytes:
        """Runtime code."""
        return bytes.fromhex(self.runtime_bytecode[2:])


@dataclass(frozen=True, slots=True)
class SystemContract:
    """A contract that stands at a fixed address from genesis on."""

    name: str
    address: Address
    code: bytes


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


@cache
def genesis_contracts() -> tuple[SystemContract, ...]:
    """Return the contracts that every genesis carries, each with nonce 1 and no balance."""
    return (
        SystemContract("Consensus", CONSENSUS, artifact("Consensus").code),
        SystemContract("EIP-4788", BEACON_ROOTS, _BEACON_ROOTS_CODE),
        SystemContract("EIP-2935", BLOCK_HASHES, _BLOCK_HASHES_CODE),
    )


def is_reserved(address: bytes) -> bool:
    """Whether only the protocol may decide what stands at ``address``."""
    return address.startswith(_NAMESPACE) or address in (BEACON_ROOTS, BLOCK_HASHES, SYSTEM_CALLER)


def begin_block_calldata(prev_randao: bytes) -> bytes:
    """Return the input of the block-start call to `CONSENSUS`.

    Parameters
    ----------
    prev_randao
        The block's prevRandao, 32 bytes, the same as in its header.
    """
    if len(prev_randao) != 32:
        raise ValueError(f"prev_randao has {len(prev_randao)} bytes, 32 are needed")
    return _BEGIN_BLOCK_SELECTOR + prev_randao


def block_start_calls(prev_randao: bytes) -> tuple[tuple[Address, bytes], ...]:
    """Return the (contract, input) calls that the protocol makes at the start of a block, in order.

    Those of EIP-4788 and EIP-2935 come before them and are made by the engine itself.
    """
    return ((CONSENSUS, begin_block_calldata(prev_randao)),)
