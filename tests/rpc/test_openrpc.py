"""The server describes itself."""

from __future__ import annotations

from typing import Any

import pytest

from noria.rpc.methods import registry_for
from noria.rpc.params import QUANTITY, TextArg
from noria.rpc.registry import Registry
from tests.rpc.conftest import Rpc

EXPECTED = [
    "debug_getRawBlock",
    "debug_getRawTransaction",
    "debug_traceCall",
    "debug_traceTransaction",
    "eth_accounts",
    "eth_blobBaseFee",
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_createAccessList",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_gasPrice",
    "eth_getBalance",
    "eth_getBlockByHash",
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getBlockTransactionCountByHash",
    "eth_getBlockTransactionCountByNumber",
    "eth_getCode",
    "eth_getFilterChanges",
    "eth_getFilterLogs",
    "eth_getLogs",
    "eth_getProof",
    "eth_getRawTransactionByHash",
    "eth_getStorageAt",
    "eth_getTransactionByBlockHashAndIndex",
    "eth_getTransactionByBlockNumberAndIndex",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_getUncleByBlockHashAndIndex",
    "eth_getUncleByBlockNumberAndIndex",
    "eth_getUncleCountByBlockHash",
    "eth_getUncleCountByBlockNumber",
    "eth_maxPriorityFeePerGas",
    "eth_newBlockFilter",
    "eth_newFilter",
    "eth_newPendingTransactionFilter",
    "eth_sendRawTransaction",
    "eth_sendTransaction",
    "eth_sign",
    "eth_signTransaction",
    "eth_signTypedData_v4",
    "eth_subscribe",
    "eth_syncing",
    "eth_uninstallFilter",
    "eth_unsubscribe",
    "evm_increaseTime",
    "evm_mine",
    "evm_revert",
    "evm_setNextBlockTimestamp",
    "evm_snapshot",
    "net_listening",
    "net_peerCount",
    "net_version",
    "personal_sign",
    "rpc_discover",
    "rpc_modules",
    "web3_clientVersion",
    "web3_sha3",
]


async def test_discover(rpc: Rpc) -> None:
    document = await rpc("rpc_discover")
    assert document["openrpc"].startswith("1.")
    assert document["info"]["version"] == "noria/test"
    methods: dict[str, Any] = {method["name"]: method for method in document["methods"]}
    assert list(methods) == EXPECTED
    for method in methods.values():
        assert method["summary"].endswith(".")
        assert isinstance(method["result"]["schema"], dict)
        assert -32602 in {error["code"] for error in method["errors"]}
        required = [param["required"] for param in method["params"]]
        assert required == sorted(required, reverse=True)
    balance = methods["eth_getBalance"]
    assert [(param["name"], param["required"]) for param in balance["params"]] == [
        ("address", True),
        ("block", True),
    ]
    assert balance["params"][0]["schema"]["pattern"] == "^0x[0-9a-fA-F]{40}$"
    assert balance["result"]["schema"]["type"] == "string"
    assert 3 in {error["code"] for error in methods["eth_call"]["errors"]}


async def test_modules(rpc: Rpc) -> None:
    assert await rpc("rpc_modules") == dict.fromkeys(
        ["debug", "eth", "evm", "net", "personal", "rpc", "web3"], "1.0"
    )


def test_only_development_nodes_have_development_methods() -> None:
    public = {method.name for method in registry_for(development=False)}
    assert {name for name in EXPECTED if name not in public} == {
        "eth_accounts",
        "eth_sendTransaction",
        "eth_sign",
        "eth_signTransaction",
        "eth_signTypedData_v4",
        "evm_increaseTime",
        "evm_mine",
        "evm_revert",
        "evm_setNextBlockTimestamp",
        "evm_snapshot",
        "personal_sign",
    }


def test_names_are_unique() -> None:
    registry = Registry()
    registry.method("a", QUANTITY)(lambda context: "0x0")
    with pytest.raises(ValueError, match="method a is registered twice"):
        registry.method("a", QUANTITY)(lambda context: "0x0")
    with pytest.raises(ValueError, match="method a is registered twice"):
        registry.include(registry)


def test_parameters_need_an_argument_type() -> None:
    registry = Registry()

    def typed(context: Any, text: TextArg) -> str:
        return text

    def untyped(context: Any, text: str) -> str:
        return text

    registry.method("typed", QUANTITY)(typed)
    with pytest.raises(TypeError, match="parameter text has no argument type"):
        registry.method("untyped", QUANTITY)(untyped)
