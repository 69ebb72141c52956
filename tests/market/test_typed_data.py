"""What is signed is EIP-712 as wallets know it, and each hash covers every field."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from noria.execution.system_contracts import SETTLEMENT
from noria.market.typed_data import (
    Domain,
    allow_digest,
    approval_digest,
    details_hash,
    seal,
    session_digest,
    sign_allow,
    sign_approval,
    sign_session,
    signer_of,
    terms_hash,
)
from noria.primitives.hashes import blake3, keccak256
from noria.primitives.keys import PrivateKey
from noria.primitives.types import Hash32

hashes = st.binary(min_size=32, max_size=32).map(Hash32)
jobs = st.integers(0, 2**256 - 1)
places = st.integers(0, 2**32 - 1)
domains = st.builds(Domain, st.integers(0, 2**256 - 1), hashes)
KEY = PrivateKey(b"\x41" * 32)


@dataclass(frozen=True)
class Fields:
    """A batch."""

    root: bytes = bytes(32)
    first_index: int = 0
    count: int = 1
    fuel: int = 0
    weight: int = 0


batches = st.builds(
    Fields,
    hashes,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)


def wallet_digest(domain: Domain, name: str, types: list[tuple[str, str]], values: dict[str, Any]) -> bytes:
    """The digest that wallets sign, by an implementation of others."""
    message = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "chainId", "type": "uint256"},
                    {"name": "verifyingContract", "type": "address"},
                    {"name": "salt", "type": "bytes32"},
                ],
                name: [{"name": field, "type": type_} for type_, field in types],
            },
            "primaryType": name,
            "domain": {
                "name": "Noria",
                "version": "1",
                "chainId": domain.chain_id,
                "verifyingContract": "0x" + SETTLEMENT.hex(),
                "salt": domain.genesis_root,
            },
            "message": values,
        }
    )
    return bytes(_hash_eip191_message(message))


@given(domains, jobs, places, st.integers(0, 2**256 - 1))
def test_an_allow_is_what_wallets_sign(domain: Domain, job: int, k: int, total: int) -> None:
    types = [("uint256", "job"), ("uint32", "k"), ("uint256", "total")]
    expected = wallet_digest(domain, "Allow", types, {"job": job, "k": k, "total": total})
    assert allow_digest(domain, job, k, total) == expected


@given(domains, jobs, places, batches)
def test_an_approval_is_what_wallets_sign(domain: Domain, job: int, k: int, batch: Fields) -> None:
    types = [
        ("uint256", "job"),
        ("uint32", "k"),
        ("bytes32", "root"),
        ("uint64", "first_index"),
        ("uint16", "count"),
        ("uint64", "fuel"),
        ("uint64", "weight"),
    ]
    values = {
        "job": job,
        "k": k,
        "root": batch.root,
        "first_index": batch.first_index,
        "count": batch.count,
        "fuel": batch.fuel,
        "weight": batch.weight,
    }
    assert approval_digest(domain, job, k, batch) == wallet_digest(domain, "Approval", types, values)


@given(domains, jobs, places, st.text(max_size=60))
def test_a_session_is_what_wallets_sign(domain: Domain, job: int, k: int, peer: str) -> None:
    types = [("uint256", "job"), ("uint32", "k"), ("string", "peer")]
    expected = wallet_digest(domain, "Session", types, {"job": job, "k": k, "peer": peer})
    assert session_digest(domain, job, k, peer) == expected


def test_who_signed_is_found() -> None:
    domain, batch = Domain(7, Hash32(b"\x05" * 32)), Fields(count=3)
    for digest, signature in (
        (allow_digest(domain, 1, 2, 3), sign_allow(KEY, domain, 1, 2, 3)),
        (approval_digest(domain, 1, 2, batch), sign_approval(KEY, domain, 1, 2, batch)),
        (session_digest(domain, 1, 2, "peer"), sign_session(KEY, domain, 1, 2, "peer")),
    ):
        assert signer_of(digest, signature) == KEY.address
        assert signer_of(Hash32(bytes(32)), signature) != KEY.address
    # As a wallet signs: the same account.
    signed = Account.from_key(KEY.secret).unsafe_sign_hash(allow_digest(domain, 1, 2, 3))
    assert bytes(signed.signature)[:64] == sign_allow(KEY, domain, 1, 2, 3)[:64]


@given(st.binary(max_size=70))
def test_no_bytes_are_more_than_nobodys_signature(signature: bytes) -> None:
    found = signer_of(Hash32(bytes(32)), signature)
    assert found is None or len(found) == 20


@pytest.mark.parametrize(
    "make",
    [
        lambda domain: allow_digest(domain, -1, 0, 0),
        lambda domain: allow_digest(domain, 2**256, 0, 0),
        lambda domain: allow_digest(domain, 0, 2**32, 0),
        lambda domain: allow_digest(domain, 0, 0, 2**256),
        lambda domain: session_digest(domain, 0, -1, ""),
        lambda domain: approval_digest(domain, 0, 0, Fields(root=bytes(31))),
        lambda domain: approval_digest(domain, 0, 0, Fields(count=2**16)),
        lambda domain: approval_digest(domain, 0, 0, Fields(fuel=2**64)),
        lambda domain: Domain(1, Hash32(bytes(31))),
        lambda domain: Domain(-1, Hash32(bytes(32))),
        lambda domain: terms_hash(bytes(31), Hash32(bytes(32))),
        lambda domain: terms_hash(bytes(32), Hash32(bytes(33))),
        lambda domain: seal(bytes(32), 0, bytes(32), bytes(32), 256, bytes(32), 0, bytes(20)),
        lambda domain: seal(bytes(32), 0, bytes(32), bytes(31), 0, bytes(32), 0, bytes(20)),
    ],
)
def test_what_does_not_fit_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r" is 0 to | has \d+ bytes"):
        make(Domain(1, Hash32(bytes(32))))


def test_terms_and_seals_are_the_protocols() -> None:
    program, details = b"\x01" * 32, details_hash(b"details")
    assert details == keccak256(b"noria/details/1details")
    assert terms_hash(program, details) == keccak256(b"noria/terms/1" + program + details)
    root, unit, nonce, output, miner = b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, b"\x05" * 32, b"\x06" * 20
    expected = blake3(
        b"noria/seal/1"
        + root
        + (9).to_bytes(32, "big")
        + unit
        + nonce
        + b"\x02"
        + output
        + (77).to_bytes(8, "big")
        + miner
    )
    assert seal(root, 9, unit, nonce, 2, output, 77, miner) == expected


@given(st.integers(0, 7), st.integers(1, 255))
def test_a_seal_covers_every_field(field: int, change: int) -> None:
    values: list[Any] = [bytes(32), 0, bytes(32), bytes(32), 0, bytes(32), 0, bytes(20)]
    other = list(values)
    old = values[field]
    other[field] = change if isinstance(old, int) else bytes([change]) + old[1:]
    assert seal(*values) != seal(*other)


def test_domains_are_apart() -> None:
    domain = Domain(1, Hash32(bytes(32)))
    others = (replace(domain, chain_id=2), replace(domain, genesis_root=Hash32(b"\1" * 32)))
    assert len({allow_digest(one, 1, 1, 1) for one in (domain, *others)}) == 3
