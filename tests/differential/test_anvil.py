"""Against anvil: the same signed transactions give the same receipts, state and answers."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from benchmarks.client import hexed, post, request, result
from benchmarks.peers import Node, PeerMissing, anvil_program, run_anvil, run_noria
from benchmarks.traffic import erc20
from tests.differential.assembly import assemble, deployment, word
from tests.differential.scenarios import SCENARIOS, SUPPLY, selector, tell
from tests.differential.story import Story

FIRST_BASE_FEE = 875_000_000
"""Of block 1 on our development chain: the child of an empty block at 1 gwei."""
GAS_LIMIT = "36000000"
ON_DEMAND = ("--block-time", "86400")
SAME_RECEIPT_FIELDS = (
    "transactionHash",
    "transactionIndex",
    "blockNumber",
    "type",
    "status",
    "from",
    "to",
    "contractAddress",
    "gasUsed",
    "cumulativeGasUsed",
    "effectiveGasPrice",
    "logsBloom",
)
SAME_LOG_FIELDS = ("address", "topics", "data", "logIndex", "transactionHash", "transactionIndex", "removed")


@pytest.fixture(scope="module", autouse=True)
def _peer_is_installed() -> None:
    try:
        anvil_program()
    except PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    """A fresh node of ours and a fresh anvil at the same rules and fees; both mine when they are told to."""
    options = ("--hardfork", "osaka", "--no-mining", "--block-base-fee-per-gas", str(FIRST_BASE_FEE))
    with (
        run_noria([*ON_DEMAND, "--gas-limit", GAS_LIMIT]) as ours,
        run_anvil([*options, "--gas-limit", GAS_LIMIT]) as theirs,
    ):
        yield ours, theirs


def mine(node: Node, raws: Sequence[bytes]) -> list[dict[str, Any]]:
    """Send transactions, make one block, and return its receipts."""
    answers = post(node, [request("eth_sendRawTransaction", hexed(raw), id=i) for i, raw in enumerate(raws)])
    assert [answer for answer in answers if "error" in answer] == [], node.name
    result(node, "evm_mine")
    receipts = result(node, "eth_getBlockReceipts", "latest")
    assert len(receipts) == len(raws), node.name
    return list(receipts)


def comparable(receipt: dict[str, Any]) -> dict[str, Any]:
    """The part of a receipt that does not depend on whose block it is in."""
    fields = {name: lowered(receipt.get(name)) for name in SAME_RECEIPT_FIELDS}
    logs = [{name: lowered(log.get(name)) for name in SAME_LOG_FIELDS} for log in receipt["logs"]]
    return fields | {"logs": logs}


def lowered(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def account(node: Node, address: bytes) -> dict[str, Any]:
    """What a node tells about an account."""
    calls = {
        "balance": ("eth_getBalance", hexed(address), "latest"),
        "nonce": ("eth_getTransactionCount", hexed(address), "latest"),
        "code": ("eth_getCode", hexed(address), "latest"),
    } | {f"slot {slot}": ("eth_getStorageAt", hexed(address), hex(slot), "latest") for slot in range(10)}
    return {name: result(node, *call) for name, call in calls.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_same_receipts_and_accounts(name: str, nodes: tuple[Node, Node]) -> None:
    ours, theirs = nodes
    story = tell(name)
    for raws in story.finished():
        got, expected = mine(ours, raws), mine(theirs, raws)
        assert [comparable(each) for each in got] == [comparable(each) for each in expected]
    for address in sorted(story.watched):
        assert account(ours, address) == account(theirs, address), address.hex()


def outcome(node: Node, method: str, *params: object) -> Any:
    """Result, or the code and data of the error: what a client acts upon."""
    answer = post(node, request(method, *params))
    if "error" in answer:
        return {"code": answer["error"]["code"], "data": answer["error"].get("data")}
    return lowered(answer["result"])


def test_same_answers_to_calls_and_estimates(nodes: tuple[Node, Node]) -> None:
    story = Story()
    contract = story.deploy(0, erc20().init_code + word(SUPPLY), gas=2_000_000)
    reverting = story.deploy(0, deployment(assemble("0x1234 PUSH0 MSTORE 32 PUSH0 REVERT")))
    for raws in story.finished():
        for node in nodes:
            mine(node, raws)
    owner, other = hexed(story.address(0)), hexed(story.address(1))

    def token(signature: str, *arguments: int | bytes, sender: str = owner) -> dict[str, str]:
        data = selector(signature) + b"".join(map(word, arguments))
        return {"from": sender, "to": hexed(contract), "data": hexed(data)}

    pay = "transfer(address,uint256)"
    requests = [
        token("balanceOf(address)", story.address(0)),
        token("balanceOf(address)", story.address(1)),
        token("totalSupply()"),
        token(pay, story.address(1), 5),
        token(pay, story.address(1), 5, sender=other),
        token("nonsense()"),
        {"from": owner, "to": other, "value": "0x1"},
        {"from": owner, "to": hexed(reverting)},
        {"from": owner, "data": hexed(deployment(b"\x00"))},
    ]
    ours, theirs = nodes
    for call in requests:
        for method in ("eth_call", "eth_estimateGas"):
            got, expected = outcome(ours, method, call, "latest"), outcome(theirs, method, call, "latest")
            if method == "eth_estimateGas" and isinstance(got, str) and isinstance(expected, str):
                # Both search, and may stop at different distances from the least amount.
                assert abs(int(got, 16) - int(expected, 16)) <= int(expected, 16) // 50, call
            else:
                assert got == expected, (method, call)
