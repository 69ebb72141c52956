"""A contract that is a requester, miner or developer, and does what others would not."""

import dataclasses
from collections.abc import Sequence
from functools import cache

from vyper.compiler import compile_code

from noria.execution.genesis import possession_message
from noria.execution.spec import ChainSpec, GenesisAccount
from noria.primitives.types import Address, BlsSignature
from tests.contracts.market import Market
from tests.contracts.network import bls_key, calldata, genesis_miner
from tests.contracts.real_work import origin

HOSTILE = Address(b"\x99" * 20)
BLS_NUMBER = 50
"""Of the BLS key with which it mines."""

SOURCE = """
# pragma version 0.4.3
# pragma evm-version prague
refuse: public(bool)
to: public(address)
data: public(Bytes[1024])
entered: public(uint256)

@external
@payable
def __default__():
    assert not self.refuse, "no"
    if self.to != empty(address):
        self.entered += 1
        done: bool = raw_call(self.to, self.data, revert_on_failure=False)

@external
def reply(refuse: bool, to: address, data: Bytes[1024]):
    self.refuse = refuse
    self.to = to
    self.data = data

@external
@payable
def forward(to: address, data: Bytes[8192]):
    raw_call(to, data, value=msg.value)
"""


@cache
def code() -> bytes:
    """Runtime code."""
    return bytes.fromhex(compile_code(SOURCE, output_formats=["bytecode_runtime"])["bytecode_runtime"][2:])


def with_hostile(spec: ChainSpec, *, mines: bool = False) -> ChainSpec:
    """The same network, with the contract; if it mines, with it as one more genesis miner."""
    alloc = {**spec.alloc, HOSTILE: GenesisAccount(nonce=1, code=code())}
    miners = spec.miners
    if mines:
        key = bls_key(BLS_NUMBER)
        proof = BlsSignature(key.sign(possession_message(origin(), HOSTILE, key.public_key)))
        miner = genesis_miner(BLS_NUMBER, address=HOSTILE, bls_key=key.public_key, proof_of_possession=proof)
        miners = (*miners, miner)
    return dataclasses.replace(spec, alloc=alloc, miners=miners)


def reply(market: Market, *, refuse: bool = False, to: Address | None = None, data: bytes = b"") -> None:
    """Say what the contract does when it is paid."""
    market.network.send(
        9, HOSTILE, "reply(bool,address,bytes)", refuse, bytes(20) if to is None else to, data
    )


def forward(market: Market, to: Address, data: bytes, value: int = 0) -> Sequence[object]:
    """Let the contract make a call; account 9 pays."""
    return market.send(9, HOSTILE, calldata("forward(address,bytes)", to, data), value)


def entered(market: Market) -> int:
    """How often a payment has let it run code."""
    return int(market.network.ask(HOSTILE, "entered()", "uint256"))
