"""Transactions of every kind: money, contracts that do all sorts of things, contracts of the protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from noria._core import keccak256, rlp_encode
from noria.cli.registration import register_call, registry_call, unbond_call, update_call, withdraw_call
from noria.execution.accounts import DevAccount, dev_accounts
from noria.execution.spec import ChainSpec, GenesisAccount
from noria.execution.system_contracts import (
    BURNED,
    COURT,
    JOB_MARKET,
    MINER_REGISTRY,
    OWN_CONTRACTS,
    PROGRAM_REGISTRY,
)
from noria.market.contract_calls import assign_call, close_call, open_call, publish_call, refund_call
from noria.primitives.hashes import blake3
from noria.primitives.types import NOR, ZERO_ADDRESS, Address, Hash32
from tests.chain.drawn import PROGRAM, key
from tests.chain.transfers import SINK, authorization_transaction, transfer
from tests.differential.assembly import STORE_INPUT, assemble, deployment, word

RECORDER, KEEPER, REVERTER, BURNER, BREEDER, LEAVER = (Address(bytes([0xC0 + n]) * 20) for n in range(6))
RECORDED_SLOTS: Final = 12
CODES: Final = {
    # Everything that a block decides, so that nothing about it can be another one.
    RECORDER: assemble(
        "COINBASE 0 SSTORE TIMESTAMP 1 SSTORE BASEFEE 2 SSTORE PREVRANDAO 3 SSTORE 1 NUMBER SUB BLOCKHASH 4"
        " SSTORE CALLER 5 SSTORE GASPRICE 6 SSTORE GAS 7 SSTORE COINBASE BALANCE 8 SSTORE NUMBER 9 SSTORE"
        " SELFBALANCE 10 SSTORE GASLIMIT 11 SSTORE CALLVALUE 0 MSTORE NUMBER 32 0 LOG1 STOP"
    ),
    KEEPER: STORE_INPUT,
    REVERTER: assemble("CALLER 0 MSTORE 1 5 SSTORE 32 0 REVERT"),
    BURNER: assemble("JUMPDEST 0 JUMP"),
    BREEDER: assemble("CALLDATASIZE 0 0 CALLDATACOPY CALLDATASIZE 0 0 CREATE 0 SSTORE STOP"),
    LEAVER: assemble("CALLER SELFDESTRUCT"),
}
_LATE: Final = range(4, 10)
"""Accounts that are no miners at genesis."""
_JOBS: Final = 4
"""Jobs that calls name."""


def with_contracts(spec: ChainSpec) -> ChainSpec:
    """The same chain with these contracts from genesis on."""
    codes = {address: GenesisAccount(nonce=1, code=code) for address, code in CODES.items()}
    return dataclasses.replace(spec, alloc={**spec.alloc, **codes})


@dataclass
class Writer:
    """Makes transactions of any kind.

    Attributes
    ----------
    genesis_root
        Of the chain; registrations name it.
    leaver
        The genesis miner that may take its bond out.
    holders
        Whoever may have wei.
    contracts
        What was created, on whatever branch.
    """

    genesis_root: Hash32
    leaver: int
    holders: set[Address]
    contracts: list[Address] = field(default_factory=lambda: [RECORDER])

    @classmethod
    def on(cls, spec: ChainSpec, genesis_root: Hash32, leaver: int) -> Writer:
        """Return a writer for a chain."""
        holders = {*spec.alloc, *OWN_CONTRACTS.values(), BURNED, COURT, Address(SINK), ZERO_ADDRESS}
        return cls(genesis_root, leaver, holders)

    def write(self, kind: str, number: int, nonce_of: Callable[[int], int], salt: int) -> bytes:
        """Return a transaction of an account; what else is to be decided, a number decides."""
        return KINDS[kind](self, number, nonce_of, salt)


Nonces = Callable[[int], int]
"""The next nonce of an account, by its number."""
Maker = Callable[[Writer, int, Nonces, int], bytes]


@cache
def _accounts() -> tuple[DevAccount, ...]:
    return tuple(dev_accounts())


def _account(number: int) -> DevAccount:
    return _accounts()[number]


def _created(writer: Writer, number: int, nonce: int) -> None:
    encoded = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    address = Address(keccak256(rlp_encode([_account(number).address, encoded]))[12:])
    writer.holders.add(address)
    writer.contracts.append(address)


def _transfer(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    to = _account(salt % 10).address
    return transfer(_account(number), nonce_of(number), to=to, value=salt % NOR, tip=salt % 10**10)


def _to_stranger(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    to = Address(blake3(salt.to_bytes(8, "big"))[:20])
    writer.holders.add(to)
    return transfer(_account(number), nonce_of(number), to=to, value=salt % NOR)


def _creation(writer: Writer, number: int, nonce_of: Nonces, code: bytes, value: int) -> bytes:
    nonce = nonce_of(number)
    _created(writer, number, nonce)
    return transfer(_account(number), nonce, to=b"", value=value, gas=500_000, data=code)


def _create(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _creation(writer, number, nonce_of, deployment(CODES[RECORDER]), salt % 100)


def _create_in_vain(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _creation(writer, number, nonce_of, CODES[REVERTER], 0)


def _create_and_leave(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _creation(writer, number, nonce_of, CODES[LEAVER], salt % 100)


def _call(
    to: Address, data: bytes, *, gas: int, value: int = 0
) -> Callable[[Writer, int, Nonces, int], bytes]:
    def write(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
        return transfer(_account(number), nonce_of(number), to=to, value=value, gas=gas, data=data)

    return write


def _record(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    to = writer.contracts[salt % len(writer.contracts)]
    return transfer(_account(number), nonce_of(number), to=to, value=salt % 50, gas=500_000)


def _keep(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    # Every third one empties a slot.
    data = word(salt % 4) + word(salt if salt % 3 else 0)
    return transfer(_account(number), nonce_of(number), to=KEEPER, value=0, gas=100_000, data=data)


def _leave_contract(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return transfer(_account(number), nonce_of(number), to=LEAVER, value=salt % NOR, gas=100_000)


def _delegate(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    authority = salt % 10
    nonce = nonce_of(number)
    authority_nonce = nonce + 1 if authority == number else nonce_of(authority)
    target = RECORDER if salt % 4 else ZERO_ADDRESS
    return authorization_transaction(
        _account(number), nonce, _account(authority), authority_nonce, target=target
    )


def _call_a_delegate(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    to = _account(salt % 10).address
    return transfer(_account(number), nonce_of(number), to=to, value=1, gas=500_000)


def _registry(number: int, nonce_of: Nonces, data: bytes, *, value: int = 0, gas: int = 500_000) -> bytes:
    account = _account(number)
    return transfer(account, nonce_of(number), to=MINER_REGISTRY, value=value, gas=gas, data=data)


def _register(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    late = _LATE[salt % len(_LATE)]
    address = Address(_account(late).address)
    data = register_call(writer.genesis_root, address, key(late), "peer", salt % 100, 1)
    return _registry(late, nonce_of, data, value=4_000 * NOR, gas=2_000_000)


def _wake(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _registry(number, nonce_of, registry_call("wake()"))


def _add_bond(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _registry(number, nonce_of, registry_call("add_bond()"), value=1 + salt % (2 * NOR))


def _unbond(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    """A little is what was added; all of it, and the miner leaves: that only one of genesis may."""
    who = writer.leaver if salt % 2 else _LATE[salt % len(_LATE)]
    return _registry(who, nonce_of, unbond_call(4_000 * NOR if salt % 3 else 1))


def _withdraw(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _registry(number, nonce_of, withdraw_call(Address(_account(salt % 10).address)))


def _update(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    return _registry(number, nonce_of, update_call("elsewhere", salt % 1000, 1 + salt % 7))


def _open_job(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    data = open_call(
        program_id=PROGRAM,
        details_hash=blake3(b"details"),
        session_key=ZERO_ADDRESS,
        max_price=10**9,
        miners=1 + salt % 3,
        replicas=1,
        public=True,
        share=10**15,
    )
    return transfer(_account(number), nonce_of(number), to=JOB_MARKET, value=10**16, gas=500_000, data=data)


def _job(call: Callable[[int], bytes]) -> Maker:
    def write(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
        data = call(1 + salt % _JOBS)
        return transfer(_account(number), nonce_of(number), to=JOB_MARKET, value=0, gas=1_000_000, data=data)

    return write


def _publish(writer: Writer, number: int, nonce_of: Nonces, salt: int) -> bytes:
    data = publish_call(blake3(b"program %d" % (salt % 5)), salt % 3, b"")
    return transfer(_account(number), nonce_of(number), to=PROGRAM_REGISTRY, value=0, gas=200_000, data=data)


KINDS: Final[dict[str, Maker]] = {
    "transfer": _transfer,
    "to a stranger": _to_stranger,
    "create": _create,
    "create in vain": _create_in_vain,
    "create and leave": _create_and_leave,
    "record": _record,
    "keep": _keep,
    "revert": _call(REVERTER, b"", gas=100_000, value=3),
    "burn all gas": _call(BURNER, b"", gas=1_000_000),
    "breed": _call(BREEDER, deployment(CODES[KEEPER]), gas=300_000),
    "leave a contract": _leave_contract,
    "delegate": _delegate,
    "call a delegate": _call_a_delegate,
    "register": _register,
    "wake": _wake,
    "add bond": _add_bond,
    "unbond": _unbond,
    "withdraw": _withdraw,
    "update": _update,
    "open a job": _open_job,
    "assign a job": _job(assign_call),
    "close a job": _job(close_call),
    "refund a job": _job(refund_call),
    "publish": _publish,
}
