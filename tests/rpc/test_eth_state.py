"""Accounts and storage at a block, calls, estimates, access lists, proofs."""

from __future__ import annotations

from typing import Any

import pytest

from noria._core import keccak256, rlp_decode
from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import DEV_BALANCE
from tests.rpc import evm
from tests.rpc.conftest import Rpc, Serve, hexed
from tests.rpc.test_errors import error_string, panic

UNKNOWN = "0x" + "ab" * 32


@pytest.fixture
def alice(dev_keys: list[DevAccount]) -> str:
    return hexed(dev_keys[0].address)


@pytest.fixture
def bob(dev_keys: list[DevAccount]) -> str:
    return hexed(dev_keys[1].address)


async def store(rpc: Rpc, sender: str, keeper: str, value: int) -> None:
    call = {"from": sender, "to": keeper, "data": hexed(evm.word(value))}
    await rpc.mined(await rpc("eth_sendTransaction", call))


# ---------------------------------------------------------------- accounts at a block


async def test_balance_at_blocks(rpc: Rpc, chain: Chain, alice: str, bob: str) -> None:
    genesis = hexed(chain.head.hash)
    await rpc.mined(await rpc("eth_sendTransaction", {"from": alice, "to": bob, "value": "0x7"}))
    before, after = hex(DEV_BALANCE), hex(DEV_BALANCE + 7)
    for block in ("earliest", "0x0", genesis, {"blockHash": genesis}, {"blockNumber": "0x0"}):
        assert await rpc("eth_getBalance", bob, block) == before
    for block in ("latest", "pending", "safe", "finalized", "0x1", hexed(chain.head.hash)):
        assert await rpc("eth_getBalance", bob, block) == after
    assert await rpc("eth_getTransactionCount", alice, "latest") == "0x1"
    assert await rpc("eth_getTransactionCount", alice, "0x0") == "0x0"


async def test_account_that_does_not_exist(rpc: Rpc) -> None:
    nobody = "0x" + "99" * 20
    assert await rpc("eth_getBalance", nobody, "latest") == "0x0"
    assert await rpc("eth_getTransactionCount", nobody, "latest") == "0x0"
    assert await rpc("eth_getCode", nobody, "latest") == "0x"
    assert await rpc("eth_getStorageAt", nobody, "0x0", "latest") == "0x" + "00" * 32


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("eth_getBalance", []),
        ("eth_getTransactionCount", []),
        ("eth_getCode", []),
        ("eth_getStorageAt", ["0x0"]),
        ("eth_getProof", [[]]),
    ],
)
async def test_unknown_block(rpc: Rpc, alice: str, method: str, more: list[Any]) -> None:
    assert (await rpc.failure(method, alice, *more, "0x99")).message == "header not found"
    failure = await rpc.failure(method, alice, *more, UNKNOWN)
    assert (failure.code, failure.message) == (-32000, "header for hash not found")


async def test_block_that_must_be_canonical(rpc: Rpc, chain: Chain, alice: str) -> None:
    genesis = chain.head.hash
    side = hexed((await chain.mine()).hash)
    await chain.revert_to(genesis)
    assert await rpc("eth_getBalance", alice, {"blockHash": side}) == hex(DEV_BALANCE)
    failure = await rpc.failure("eth_getBalance", alice, {"blockHash": side, "requireCanonical": True})
    assert (failure.code, failure.message) == (-32000, "hash is not currently canonical")
    canonical = {"blockHash": hexed(genesis), "requireCanonical": True}
    assert await rpc("eth_getBalance", alice, canonical) == hex(DEV_BALANCE)


async def test_storage(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    keeper = await rpc.deploy(dev_keys[0], evm.KEEPER)
    await store(rpc, alice, keeper, 42)
    for slot in ("0x0", "0x00", "0x" + "00" * 32):
        assert await rpc("eth_getStorageAt", keeper, slot, "latest") == hexed(evm.word(42))
    assert await rpc("eth_getStorageAt", keeper, "0x1", "latest") == hexed(evm.word(0))
    failure = await rpc.failure("eth_getStorageAt", keeper, "0x" + "00" * 33, "latest")
    assert failure.message.startswith("invalid argument 1: storage key too long (want at most 32 bytes)")


async def test_proof(rpc: Rpc, chain: Chain, dev_keys: list[DevAccount], alice: str) -> None:
    keeper = await rpc.deploy(dev_keys[0], evm.KEEPER)
    await store(rpc, alice, keeper, 42)
    proof = await rpc("eth_getProof", keeper, ["0x0", hexed(evm.word(1))], "latest")
    assert set(proof) == {
        "address",
        "accountProof",
        "balance",
        "codeHash",
        "nonce",
        "storageHash",
        "storageProof",
    }
    assert proof["address"] == keeper
    assert proof["codeHash"] == hexed(keccak256(evm.KEEPER))
    assert keccak256(bytes.fromhex(proof["accountProof"][0][2:])) == chain.head.state_root
    held, absent = proof["storageProof"]
    assert (held["key"], held["value"]) == (hexed(evm.word(0)), "0x2a")
    assert (absent["key"], absent["value"]) == (hexed(evm.word(1)), "0x0")
    assert keccak256(bytes.fromhex(held["proof"][0][2:])) == bytes.fromhex(proof["storageHash"][2:])
    leaf = rlp_decode(bytes.fromhex(held["proof"][-1][2:]))
    assert leaf[1] == b"\x2a"


async def test_proof_of_too_many_slots(rpc: Rpc, alice: str) -> None:
    failure = await rpc.failure("eth_getProof", alice, ["0x0"] * 1_025, "latest")
    assert failure.message == "invalid argument 1: too many keys: 1025, at most 1024"


# ---------------------------------------------------------------- calls


async def test_call(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    echo = await rpc.deploy(dev_keys[0], evm.ECHO)
    for _ in range(3):
        assert await rpc("eth_call", {"to": echo, "data": "0x1234"}, "latest") == "0x1234"
    assert await rpc("eth_call", {"to": echo, "input": "0x1234"}) == "0x1234"
    assert await rpc("eth_call", {"from": alice, "to": alice}) == "0x"
    # The contract is not there yet at genesis.
    assert await rpc("eth_call", {"to": echo, "data": "0x1234"}, "earliest") == "0x"


async def test_batch_of_calls(rpc: Rpc, dev_keys: list[DevAccount]) -> None:
    echo = await rpc.deploy(dev_keys[0], evm.ECHO)
    reverter = await rpc.deploy(dev_keys[0], evm.REVERTER)
    answers = await rpc.batch(
        *(("eth_call", {"to": echo, "data": hexed(bytes([number]))}, "latest") for number in range(20)),
        ("eth_call", {"to": reverter}, "latest"),
        ("eth_call", {"to": echo}, "0x99"),
        ("eth_call", {"to": echo, "data": "0x05"}, "0x1"),
        ("eth_call", {"to": 5}, "latest"),
        ("eth_call", {"to": echo, "data": "0x06"}, "latest", {echo: {"code": "0x"}}),
    )
    assert answers[:20] == [hexed(bytes([number])) for number in range(20)]
    assert answers[20] == {"code": 3, "message": "execution reverted", "data": "0x"}
    assert answers[21] == {"code": -32000, "message": "header not found"}
    assert answers[22] == "0x05"
    assert answers[23]["code"] == -32602
    assert answers[24] == "0x"


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (b"", "execution reverted"),
        (b"\x12\x34", "execution reverted"),
        (error_string(b"not enough NOR"), "execution reverted: not enough NOR"),
        (panic(0x12), "execution reverted: division or modulo by zero"),
    ],
)
@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas"])
async def test_reverts(
    rpc: Rpc, dev_keys: list[DevAccount], method: str, output: bytes, message: str
) -> None:
    reverter = await rpc.deploy(dev_keys[0], evm.REVERTER)
    failure = await rpc.failure(method, {"to": reverter, "data": hexed(output)})
    assert (failure.code, failure.message, failure.data) == (3, message, hexed(output))


async def test_failed_calls(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    spinner = await rpc.deploy(dev_keys[0], evm.SPINNER)
    failure = await rpc.failure("eth_call", {"to": spinner, "gas": "0x186a0"})
    assert (failure.code, failure.message) == (-32000, "out of gas")
    failure = await rpc.failure("eth_call", {"data": "0xfe"})
    assert (failure.code, failure.message) == (-32000, "invalid opcode: INVALID")
    failure = await rpc.failure("eth_call", {"from": alice, "to": alice, "value": hex(10**30)})
    assert failure.code == -32000
    assert failure.message.startswith("insufficient funds for gas * price + value")


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ({"to": "0x12"}, -32602, "invalid argument 0: "),
        ({"data": "0x1"}, -32602, "invalid argument 0: "),
        ({"value": "many"}, -32602, "invalid argument 0: "),
        ({"gasPrice": "0x1", "maxFeePerGas": "0x1"}, -32000, "both gasPrice and (maxFeePerGas or"),
        ({"data": "0x12", "input": "0x34"}, -32000, 'both "data" and "input" are set and not equal'),
        ({"chainId": "0x1"}, -32000, "chainId does not match node's"),
    ],
)
@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas", "eth_createAccessList"])
async def test_bad_call_object(rpc: Rpc, method: str, call: dict[str, Any], code: int, words: str) -> None:
    failure = await rpc.failure(method, call, "latest")
    assert failure.code == code
    assert failure.message.startswith(words)


async def test_gas_cap(serve: Serve, rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]) -> None:
    spinner = await rpc.deploy(dev_keys[0], evm.SPINNER)
    async with serve(call_gas_cap=1_000_000) as server:
        capped = Rpc(server.http_url, rpc.http, chain)
        failure = await capped.failure("eth_call", {"to": spinner, "gas": "0xffffffffffff"})
        assert failure.message == "out of gas"
        failure = await capped.failure("eth_estimateGas", {"to": spinner})
        assert failure.message == "gas required exceeds allowance (1000000)"


async def test_call_past_the_time_limit(
    serve: Serve, rpc: Rpc, chain: Chain, dev_keys: list[DevAccount]
) -> None:
    spinner = await rpc.deploy(dev_keys[0], evm.SPINNER)
    async with serve(request_seconds=0.02, call_gas_cap=10**9) as server:
        limited = Rpc(server.http_url, rpc.http, chain)
        failure = await limited.failure("eth_call", {"to": spinner})
        assert (failure.code, failure.message) == (-32002, "request timed out")
        answers = await limited.batch(*[("eth_call", {"to": spinner})] * 3)
        assert {answer["code"] for answer in answers} == {-32002}
        # The server goes on meanwhile.
        assert await limited("eth_chainId") == "0x4e4f52"


async def test_state_overrides(rpc: Rpc, alice: str) -> None:
    nobody = "0x" + "99" * 20
    code = {nobody: {"code": hexed(evm.ECHO)}}
    assert await rpc("eth_call", {"to": nobody, "data": "0xaa"}, "latest", code) == "0xaa"
    money = {alice: {"balance": hex(10**40)}}
    assert await rpc("eth_call", {"from": alice, "to": nobody, "value": hex(10**30)}, "latest", money) == "0x"
    assert await rpc("eth_estimateGas", {"to": nobody, "data": "0xaa"}, "latest", code) != "0x5208"
    assert await rpc("eth_call", {"to": nobody, "data": "0xaa"}, "latest") == "0x"


async def test_block_overrides(rpc: Rpc) -> None:
    # NUMBER, returned as a word.
    call = {"data": "0x435f5260205ff3"}
    assert int(await rpc("eth_call", call, "latest", None, {"number": "0x63"}), 16) == 99
    assert int(await rpc("eth_call", call, "latest"), 16) == 0


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([{"0x12": {}}], "invalid argument 2: state override"),
        ([{"0x" + "99" * 20: {"state": {}, "stateDiff": {}}}], "invalid argument 2: state override"),
        ([None, {"number": "x"}], "invalid argument 3: block override"),
        ([[]], "invalid argument 2: expected an object, got an array"),
    ],
)
async def test_bad_overrides(rpc: Rpc, overrides: list[Any], words: str) -> None:
    failure = await rpc.failure("eth_call", {}, "latest", *overrides)
    assert failure.code == -32602
    assert failure.message.startswith(words)


# ---------------------------------------------------------------- estimates and access lists


async def test_estimate(rpc: Rpc, dev_keys: list[DevAccount], alice: str, bob: str) -> None:
    assert await rpc("eth_estimateGas", {"from": alice, "to": bob, "value": "0x1"}) == "0x5208"
    assert await rpc("eth_estimateGas", {"from": alice, "to": bob}, "earliest") == "0x5208"
    data = hexed(evm.init_code(evm.KEEPER))
    estimated = int(await rpc("eth_estimateGas", {"from": alice, "data": data}), 16)
    used = await rpc.mined(
        await rpc("eth_sendTransaction", {"from": alice, "data": data, "gas": hex(estimated)})
    )
    assert used["status"] == "0x1"
    assert int(used["gasUsed"], 16) <= estimated <= int(used["gasUsed"], 16) * 1.02


async def test_estimate_that_cannot_succeed(
    rpc: Rpc, dev_keys: list[DevAccount], alice: str, bob: str
) -> None:
    spinner = await rpc.deploy(dev_keys[0], evm.SPINNER)
    failure = await rpc.failure("eth_estimateGas", {"from": alice, "to": spinner})
    assert failure.code == -32000
    assert failure.message.startswith("gas required exceeds allowance (")
    failure = await rpc.failure("eth_estimateGas", {"from": alice, "to": bob, "value": hex(10**30)})
    assert failure.code == -32000
    assert failure.message.startswith("insufficient funds")
    assert (await rpc.failure("eth_estimateGas", {"data": "0xfe"})).message == "invalid opcode: INVALID"


async def test_access_list(rpc: Rpc, dev_keys: list[DevAccount], alice: str) -> None:
    keeper = await rpc.deploy(dev_keys[0], evm.KEEPER)
    found = await rpc("eth_createAccessList", {"from": alice, "to": keeper, "data": hexed(evm.word(5))})
    assert found["accessList"] == [{"address": keeper, "storageKeys": [hexed(evm.word(0))]}]
    assert int(found["gasUsed"], 16) > 21_000
