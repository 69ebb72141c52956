"""System contracts: addresses, official code, artefacts, calldata."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.execution import system_contracts as sc
from noria.execution.parameters import DEVNET
from noria.primitives.hashes import keccak256


def test_addresses_are_those_of_the_protocol() -> None:
    numbered = (
        sc.BURNED,
        sc.CONSENSUS,
        sc.MINER_REGISTRY,
        sc.WORK_LEDGER,
        sc.JOB_MARKET,
        sc.SETTLEMENT,
        sc.COURT,
        sc.PROGRAM_REGISTRY,
        sc.REWARD_POOL,
    )
    for number, address in enumerate(numbered):
        assert address.hex() == f"4e6f72696100000000000000000000000000{number:04x}"
    assert sc.BLAKE3_PRECOMPILE.hex() == "4e6f726961000000000000000000000000000101"
    assert sc.BLS_VERIFY_PRECOMPILE.hex() == "4e6f726961000000000000000000000000000102"
    assert sc.SYSTEM_CALLER.hex() == "f" * 39 + "e"


@pytest.mark.parametrize(
    ("name", "address", "code_hash"),
    [
        # The hashes that Ethereum's clients know these contracts by.
        (
            "EIP-4788",
            "000f3df6d732807ef1319fb7b8bb8522d0beac02",
            "f57acd40259872606d76197ef052f3d35588dadf919ee1f0e3cb9b62d3f4b02c",
        ),
        (
            "EIP-2935",
            "0000f90827f1c53a10cb7a02335b175320002935",
            "6e49e66782037c0555897870e29fa5e552daf4719552131a0abce779daec0a5d",
        ),
    ],
)
def test_adopted_contracts_are_byte_for_byte_ethereums(name: str, address: str, code_hash: str) -> None:
    [contract] = [contract for contract in sc.genesis_contracts(DEVNET, 0) if contract.name == name]
    assert contract.address.hex() == address
    assert keccak256(contract.code).hex() == code_hash


def test_genesis_contracts_stand_at_distinct_reserved_addresses_with_code() -> None:
    contracts = sc.genesis_contracts(DEVNET, 0)
    assert len({contract.address for contract in contracts}) == len(contracts) == 9
    assert all(contract.code and sc.is_reserved(contract.address) for contract in contracts)


@pytest.mark.parametrize(
    ("name", "functions"),
    [
        ("Consensus", {"begin_block", "begin_slot", "prev_randao", "randomness", "finality", "wake"}),
        ("MinerRegistry", {"register", "update", "unbond", "withdraw", "wake", "slash", "penalise", "draw"}),
        ("WorkLedger", {"credit", "void", "begin_epoch", "windows", "locate"}),
        (
            "JobMarket",
            {"open", "open_directed", "assign", "extend", "close", "refund", "reserve", "withdraw"},
        ),
        ("Settlement", {"commit", "commit_approved", "approve", "finalize", "credit", "batch"}),
        ("ProgramRegistry", {"publish", "set_royalty", "program"}),
        ("RewardPool", {"feed", "begin_epoch", "pay_proposer"}),
    ],
)
def test_artifacts_describe_their_interface(name: str, functions: set[str]) -> None:
    artifact = sc.artifact(name)
    assert functions <= {entry["name"] for entry in artifact.abi if entry["type"] == "function"}
    assert artifact.compiler == "vyper 0.4.3"
    assert len(artifact.code) + 32 * len(artifact.immutables) <= 24_576


def test_unknown_artifact_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        sc.artifact("Nothing")


@given(prev_randao=st.binary(min_size=32, max_size=32))
def test_begin_block_calldata_is_the_abi_call(prev_randao: bytes) -> None:
    assert sc.begin_block_calldata(prev_randao) == keccak256(b"begin_block(bytes32)")[:4] + prev_randao
    assert sc.block_start_calls(prev_randao) == ((sc.CONSENSUS, sc.begin_block_calldata(prev_randao)),)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_begin_block_calldata_refuses_other_lengths(length: int) -> None:
    with pytest.raises(ValueError, match=f"{length} bytes, 32 are needed"):
        sc.begin_block_calldata(bytes(length))


@given(number=st.integers(0, 0xFFFF))
def test_the_protocols_namespace_is_reserved(number: int) -> None:
    assert sc.is_reserved(b"Noria" + bytes(13) + number.to_bytes(2, "big"))
    assert not sc.is_reserved(b"Noria" + bytes(12) + b"\x01" + number.to_bytes(2, "big"))
