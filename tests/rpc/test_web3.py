"""web3.py, as users have it, against the server: over HTTP and over WebSocket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from web3 import AsyncHTTPProvider, AsyncWeb3, WebSocketProvider
from web3.exceptions import BlockNotFound, ContractLogicError, TransactionNotFound, Web3RPCError
from web3.types import TxParams

from noria.chain.service import Chain
from noria.execution.accounts import DevAccount
from noria.execution.spec import DEV_CHAIN_ID
from noria.rpc import RpcServer
from tests.rpc import evm
from tests.rpc.conftest import WAIT_SECONDS
from tests.rpc.test_errors import error_string

ABI: list[dict[str, Any]] = [
    {
        "type": "event",
        "name": "Noted",
        "anonymous": False,
        "inputs": [{"name": "value", "type": "uint256", "indexed": False}],
    }
]


@pytest.fixture
async def web3(server: RpcServer) -> Any:
    client = AsyncWeb3(AsyncHTTPProvider(server.http_url))
    yield client
    await client.provider.disconnect()


async def deploy(web3: AsyncWeb3[Any], sender: str, runtime: bytes) -> str:
    transaction: TxParams = {"from": sender, "data": evm.init_code(runtime)}
    receipt = await web3.eth.wait_for_transaction_receipt(await web3.eth.send_transaction(transaction))
    assert receipt["status"] == 1
    return str(receipt["contractAddress"])


async def test_chain(web3: AsyncWeb3[Any], chain: Chain) -> None:
    assert await web3.is_connected()
    assert await web3.eth.chain_id == DEV_CHAIN_ID
    assert await web3.eth.block_number == 0
    assert await web3.client_version == "noria/test"
    block = await web3.eth.get_block("latest")
    assert bytes(block["hash"]) == chain.head.hash
    with pytest.raises(BlockNotFound):
        await web3.eth.get_block(99)
    with pytest.raises(TransactionNotFound):
        await web3.eth.get_transaction("0x" + "ab" * 32)  # type: ignore[arg-type]
    assert (await web3.eth.fee_history(1, "latest", [50]))["oldestBlock"] == 0


async def test_transfer_signed_by_the_client(web3: AsyncWeb3[Any], dev_keys: list[DevAccount]) -> None:
    raw = evm.signed(dev_keys[0], 0, to=dev_keys[1].address, value=123)
    sent = await web3.eth.send_raw_transaction(raw)
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    assert receipt["gasUsed"] == 21_000
    assert (await web3.eth.get_transaction(sent))["value"] == 123
    with pytest.raises(Web3RPCError, match="nonce too low"):
        await web3.eth.send_raw_transaction(raw)


async def test_contract(web3: AsyncWeb3[Any]) -> None:
    sender = (await web3.eth.accounts)[0]
    logger = await deploy(web3, sender, evm.LOGGER)
    contract = web3.eth.contract(address=logger, abi=ABI)  # type: ignore[call-overload]
    topic = int.from_bytes(web3.keccak(text="Noted(uint256)"), "big")
    call: TxParams = {"from": sender, "to": logger, "data": evm.word(topic) + evm.word(42)}
    assert await web3.eth.estimate_gas(call) > 21_000
    assert (await web3.eth.create_access_list(call))["gasUsed"] > 21_000
    receipt = await web3.eth.wait_for_transaction_receipt(await web3.eth.send_transaction(call))
    (event,) = contract.events.Noted().process_receipt(receipt)
    assert event["args"]["value"] == 42
    (found,) = await contract.events.Noted().get_logs(from_block=0)
    assert found["transactionHash"] == receipt["transactionHash"]


async def test_revert(web3: AsyncWeb3[Any]) -> None:
    sender = (await web3.eth.accounts)[0]
    reverter = await deploy(web3, sender, evm.REVERTER)
    with pytest.raises(ContractLogicError, match="execution reverted: no funds") as reverted:
        await web3.eth.call({"to": reverter, "data": error_string(b"no funds")})
    assert reverted.value.data == "0x" + error_string(b"no funds").hex()


async def test_filter(web3: AsyncWeb3[Any], chain: Chain) -> None:
    blocks = await web3.eth.filter("latest")
    mined = await chain.mine()
    entries: list[Any] = await blocks.get_new_entries()
    assert [bytes(entry) for entry in entries] == [mined.hash]
    assert blocks.filter_id is not None
    assert await web3.eth.uninstall_filter(blocks.filter_id)


async def test_subscription(server: RpcServer, chain: Chain) -> None:
    async with AsyncWeb3(WebSocketProvider(server.websocket_url)) as web3:
        assert await web3.eth.chain_id == DEV_CHAIN_ID
        subscription = await web3.eth.subscribe("newHeads")
        mined = await chain.mine()
        async with asyncio.timeout(WAIT_SECONDS):
            async for message in web3.socket.process_subscriptions():
                assert message["subscription"] == subscription
                assert bytes(message["result"]["hash"]) == mined.hash
                break
        assert await web3.eth.unsubscribe(subscription)
