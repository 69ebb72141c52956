from __future__ import annotations

import pickle

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_keys import datatypes as eth_keys
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.primitives.addresses import checksum_address
from noria.primitives.hashes import keccak256
from noria.primitives.keys import InvalidKey, PrivateKey, recover_address
from noria.primitives.types import Hash32

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

secrets_ = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32).map(Hash32)


@settings(max_examples=25)
@given(secrets_, digests)
def test_addresses_and_signatures_are_those_of_an_independent_library(secret: bytes, digest: Hash32) -> None:
    ours, theirs = PrivateKey(secret), eth_keys.PrivateKey(secret)
    assert ours.address == theirs.public_key.to_canonical_address()
    signature = ours.sign(digest)
    assert signature == theirs.sign_msg_hash(digest).to_bytes()
    assert recover_address(digest, signature) == ours.address
    assert int.from_bytes(signature[32:64], "big") <= ORDER // 2


@given(digests, st.binary(max_size=70) | st.binary(min_size=64, max_size=64).map(lambda data: data + b"\x01"))
def test_any_bytes_are_refused_or_recover_to_20_bytes(digest: Hash32, signature: bytes) -> None:
    try:
        address = recover_address(digest, signature)
    except InvalidKey:
        return
    assert len(signature) == 65
    assert len(address) == 20


def test_a_wallets_message_signature_recovers() -> None:
    account = Account.from_key(b"\x46" * 32)
    signed = account.sign_message(encode_defunct(text="Noria"))
    signature = signed.signature[:64] + bytes([signed.v - 27])
    digest = keccak256(b"\x19Ethereum Signed Message:\n5Noria")
    assert checksum_address(recover_address(digest, signature)) == account.address


def test_the_example_of_eip_155() -> None:
    digest = Hash32(bytes.fromhex("daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"))
    signature = PrivateKey(b"\x46" * 32).sign(digest)
    assert signature.hex() == (
        "28ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276"
        "67cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
        "00"
    )


@pytest.mark.parametrize(
    "secret",
    [b"", bytes(31), bytes(32), b"\x01" * 33, ORDER.to_bytes(32, "big"), b"\xff" * 32],
)
def test_numbers_outside_the_group_are_no_keys(secret: bytes) -> None:
    with pytest.raises(InvalidKey, match="private key"):
        PrivateKey(secret)


def test_the_largest_key_is_one() -> None:
    key = PrivateKey((ORDER - 1).to_bytes(32, "big"))
    assert recover_address(keccak256(b""), key.sign(keccak256(b""))) == key.address


def test_malformed_signatures_are_refused() -> None:
    digest = keccak256(b"message")
    good = PrivateKey(b"\x01" * 32).sign(digest)
    s = int.from_bytes(good[32:64], "big")
    mirrored = good[:32] + (ORDER - s).to_bytes(32, "big") + bytes([good[64] ^ 1])
    assert eth_keys.Signature(mirrored).recover_public_key_from_msg_hash(
        digest
    )  # others take the malleable one
    for bad in (
        b"",
        good[:64],
        good + b"\x00",
        good[:64] + b"\x02",
        good[:64] + b"\x1b",
        bytes(65),
        mirrored,
    ):
        with pytest.raises(InvalidKey):
            recover_address(digest, bad)


def test_another_digest_recovers_to_another_account() -> None:
    key = PrivateKey(b"\x01" * 32)
    signature = key.sign(keccak256(b"message"))
    assert recover_address(keccak256(b"message"), signature) == key.address
    assert recover_address(keccak256(b"other"), signature) != key.address


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_digest_is_32_bytes(size: int) -> None:
    key = PrivateKey(b"\x01" * 32)
    with pytest.raises(ValueError, match=f"32 bytes, not {size}"):
        key.sign(Hash32(bytes(size)))
    with pytest.raises(ValueError, match=f"32 bytes, not {size}"):
        recover_address(Hash32(bytes(size)), bytes(65))


def test_a_keys_text_shows_its_address_and_not_its_secret() -> None:
    key = PrivateKey(bytes(range(1, 33)))
    for text in (repr(key), str(key), f"{key}", repr([key])):
        assert repr(key.secret)[2:-1] not in text
        assert key.secret.hex() not in text
        assert repr(key.address) in text


def test_new_keys_differ_and_work() -> None:
    first, second = PrivateKey.generate(), PrivateKey.generate()
    assert first != second
    assert first.address != second.address
    assert recover_address(keccak256(b""), first.sign(keccak256(b""))) == first.address


def test_a_draw_outside_the_group_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([bytes(32), b"\xff" * 32, b"\x02" * 32])
    monkeypatch.setattr("noria.primitives.keys.secrets.token_bytes", lambda size: next(draws))
    assert PrivateKey.generate() == PrivateKey(b"\x02" * 32)


def test_keys_are_values() -> None:
    key = PrivateKey(b"\x01" * 32)
    assert key == PrivateKey(b"\x01" * 32)
    assert len({key, PrivateKey(b"\x01" * 32)}) == 1
    assert pickle.loads(pickle.dumps(key)).address == key.address
    with pytest.raises(AttributeError):
        key.secret = b"\x02" * 32  # type: ignore[misc]
