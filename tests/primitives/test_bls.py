from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from py_ecc.bls import G2ProofOfPossession as Oracle

from noria import _core
from noria.primitives.keys import (
    BlsSecretKey,
    InvalidKey,
    bls_aggregate,
    bls_verify,
    bls_verify_aggregate,
    bls_verify_many,
)

ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
KEY = BlsSecretKey.from_seed(bytes(range(32)))
INFINITY = b"\xc0"


@pytest.mark.parametrize(
    ("seed", "message"), [(bytes(32), b""), (b"\xff" * 32, b"Noria"), (bytes(range(100)), bytes(1000))]
)
def test_keys_and_signatures_are_those_of_an_independent_library(seed: bytes, message: bytes) -> None:
    number = Oracle.KeyGen(seed)
    key = BlsSecretKey.from_seed(seed)
    assert int.from_bytes(key.secret, "big") == number
    assert key.public_key == Oracle.SkToPk(number)
    assert key.sign(message) == Oracle.Sign(number, message)
    assert bls_verify(key.public_key, message, key.sign(message))


def test_what_we_sign_an_independent_library_verifies() -> None:
    signature = KEY.sign(b"Noria")
    assert Oracle.Verify(KEY.public_key, b"Noria", signature)
    assert not Oracle.Verify(KEY.public_key, b"other", signature)
    assert not bls_verify(KEY.public_key, b"other", signature)


@pytest.mark.parametrize(
    ("seed", "master"),
    [
        # The test cases of EIP-2333.
        (
            "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141"
            "630c7a3c4ab7c81b2f001698e7463b04",
            6083874454709270928345386274498605044986640685124978867557563392430687146096,
        ),
        (
            "3141592653589793238462643383279502884197169399375105820974944592",
            29757020647961307431480504535336562678282505419141012933316116377660817309383,
        ),
        (
            "0099ff991111002299dd7744ee3355bbdd8844115566cc55663355668888cc00",
            27580842291869792442942448775674722299803720648445448686099262467207037398656,
        ),
        (
            "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3",
            19022158461524446591288038168518313374041767046816487870552872741050760015818,
        ),
    ],
)
def test_seeds_give_the_master_keys_of_eip_2333(seed: str, master: int) -> None:
    assert int.from_bytes(BlsSecretKey.from_seed(bytes.fromhex(seed)).secret, "big") == master


@pytest.mark.parametrize("size", [0, 31])
def test_a_short_seed_is_refused(size: int) -> None:
    with pytest.raises(InvalidKey, match=f"at least 32 bytes, not {size}"):
        BlsSecretKey.from_seed(bytes(size))


@pytest.mark.parametrize(
    "secret", [b"", bytes(32), b"\x01" * 31, b"\x01" * 33, ORDER.to_bytes(32, "big"), b"\xff" * 32]
)
def test_numbers_outside_the_group_are_no_keys(secret: bytes) -> None:
    with pytest.raises(InvalidKey, match="BLS secret key"):
        BlsSecretKey(secret)


def test_the_largest_key_is_one() -> None:
    key = BlsSecretKey((ORDER - 1).to_bytes(32, "big"))
    assert bls_verify(key.public_key, b"", key.sign(b""))


@pytest.mark.parametrize(
    ("public_key", "signature"),
    [
        (b"", KEY.sign(b"m")),
        (KEY.public_key[:47], KEY.sign(b"m")),
        (KEY.public_key + b"\x00", KEY.sign(b"m")),
        (INFINITY + bytes(47), KEY.sign(b"m")),
        (bytes(48), KEY.sign(b"m")),
        (bytes([KEY.public_key[0] ^ 0x20]) + KEY.public_key[1:], KEY.sign(b"m")),  # the negated point
        # Uncompressed, and on the curve but outside the subgroup.
        (bytes(96), KEY.sign(b"m")),
        (b"\x80" + bytes(46) + b"\x04", KEY.sign(b"m")),
        (KEY.public_key, b""),
        (KEY.public_key, KEY.sign(b"m")[:95]),
        (KEY.public_key, KEY.sign(b"m") + b"\x00"),
        (KEY.public_key, INFINITY + bytes(95)),
        (KEY.public_key, bytes(96)),
        (KEY.public_key, bytes(192)),
        (INFINITY + bytes(47), INFINITY + bytes(95)),
    ],
)
def test_malformed_points_verify_nothing(public_key: bytes, signature: bytes) -> None:
    assert not bls_verify(public_key, b"m", signature)


@settings(max_examples=50)
@given(st.binary(max_size=100), st.binary(max_size=50), st.binary(max_size=100))
def test_any_bytes_verify_nothing(public_key: bytes, message: bytes, signature: bytes) -> None:
    assert not bls_verify(public_key, message, signature)
    assert not bls_verify(KEY.public_key, message, signature)


@settings(max_examples=25)
@given(st.binary(max_size=100), st.integers(0, 96 * 8 - 1))
def test_a_signature_with_one_bit_changed_verifies_nothing(message: bytes, bit: int) -> None:
    signature = KEY.sign(message)
    assert bls_verify(KEY.public_key, message, signature)
    changed = (int.from_bytes(signature, "big") ^ (1 << bit)).to_bytes(96, "big")
    assert not bls_verify(KEY.public_key, message, changed)


def test_a_keys_text_shows_its_public_key_and_not_its_secret() -> None:
    for text in (repr(KEY), str(KEY)):
        assert repr(KEY.secret)[2:-1] not in text
        assert KEY.secret.hex() not in text
        assert repr(KEY.public_key) in text


def test_new_keys_differ_and_work() -> None:
    first, second = BlsSecretKey.generate(), BlsSecretKey.generate()
    assert first != second
    assert bls_verify(first.public_key, b"m", first.sign(b"m"))
    assert not bls_verify(second.public_key, b"m", first.sign(b"m"))


# ---------------------------------------------------------------- sums

needs_sums = pytest.mark.skipif(
    not hasattr(_core, "bls_aggregate"), reason="the extension is older than bls_aggregate: make build"
)
KEYS = [BlsSecretKey.from_seed(bytes([number]) * 32) for number in range(4)]
PUBLIC_KEYS = [key.public_key for key in KEYS]


@needs_sums
def test_a_sum_of_signatures_is_that_of_an_independent_library() -> None:
    signatures = [key.sign(b"m") for key in KEYS]
    total = bls_aggregate(signatures)
    assert total == Oracle.Aggregate(signatures)
    assert bls_aggregate(signatures[:1]) == signatures[0]
    assert bls_verify_aggregate(PUBLIC_KEYS, b"m", total)
    assert Oracle.FastAggregateVerify(PUBLIC_KEYS, b"m", total)


@needs_sums
def test_a_sum_is_of_all_its_keys_and_of_no_others() -> None:
    total = bls_aggregate([key.sign(b"m") for key in KEYS])
    assert bls_verify_aggregate(PUBLIC_KEYS[::-1], b"m", total)
    assert not bls_verify_aggregate(PUBLIC_KEYS, b"other", total)
    assert not bls_verify_aggregate(PUBLIC_KEYS[1:], b"m", total)
    assert not bls_verify_aggregate([*PUBLIC_KEYS, KEY.public_key], b"m", total)
    assert not bls_verify_aggregate([*PUBLIC_KEYS, PUBLIC_KEYS[0]], b"m", total)
    assert bls_verify_aggregate([PUBLIC_KEYS[0]] * 2, b"m", bls_aggregate([KEYS[0].sign(b"m")] * 2))


@needs_sums
def test_nothing_and_malformed_points_have_no_sum() -> None:
    signature = KEY.sign(b"m")
    for signatures in ([], [signature, b""], [signature, INFINITY + bytes(95)], [signature, bytes(96)]):
        with pytest.raises(InvalidKey, match="BLS signature"):
            bls_aggregate(signatures)
    negative = bytes([KEY.public_key[0] ^ 0x20]) + KEY.public_key[1:]
    for keys in (
        [],
        [KEY.public_key, b""],
        [KEY.public_key, INFINITY + bytes(47)],
        [KEY.public_key, negative],
    ):
        for sign in (signature, INFINITY + bytes(95)):
            assert not bls_verify_aggregate(keys, b"m", sign)


@needs_sums
@settings(max_examples=25)
@given(st.lists(st.binary(max_size=100), max_size=3), st.binary(max_size=50), st.binary(max_size=100))
def test_any_bytes_are_no_sum(keys: list[bytes], message: bytes, signature: bytes) -> None:
    assert not bls_verify_aggregate(keys, message, signature)
    assert not bls_verify_aggregate(PUBLIC_KEYS, message, signature)


def test_many_are_right_together_only_if_each_is() -> None:
    signed = [(key.public_key, bytes([n]) * n, key.sign(bytes([n]) * n)) for n, key in enumerate(KEYS * 3)]
    assert bls_verify_many(signed)
    assert bls_verify_many(signed[:1])
    assert not bls_verify_many([])
    for n, (key, message, signature) in enumerate(signed):
        for wrong in (
            (key, message + b"?", signature),
            (key, message, bytes(96)),
            (bytes(48), message, signature),
        ):
            assert not bls_verify_many([*signed[:n], wrong, *signed[n + 1 :]])
    # Two signatures of one key, exchanged: their sum is right, and each of them is wrong.
    first, other = signed[0], signed[len(KEYS)]
    assert first[0] == other[0]
    exchanged = [(*first[:2], other[2]), (*other[:2], first[2])]
    assert not bls_verify_many(exchanged)
    assert bls_verify_many([first, other])
