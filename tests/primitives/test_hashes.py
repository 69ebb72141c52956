from __future__ import annotations

import pytest
from Crypto.Hash import keccak
from hypothesis import given
from hypothesis import strategies as st

from noria.primitives import rlp
from noria.primitives.hashes import EMPTY_CODE_HASH, EMPTY_TRIE_ROOT, blake3, keccak256


@given(st.binary(max_size=500))
def test_keccak256_is_that_of_an_independent_library(data: bytes) -> None:
    assert keccak256(data) == keccak.new(digest_bits=256, data=data).digest()


def test_the_named_constants_are_the_hashes_they_are_named_for() -> None:
    assert keccak256(b"") == EMPTY_CODE_HASH
    assert keccak256(rlp.encode(b"")) == EMPTY_TRIE_ROOT


@pytest.mark.parametrize(
    ("size", "digest"),
    [
        # Official test vectors, whose input is 0, 1, ..., 250, 0, 1, ...: nothing, and around one chunk.
        (0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        (1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
        (1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11"),
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
    ],
)
def test_blake3_has_the_published_values(size: int, digest: str) -> None:
    assert blake3(bytes(index % 251 for index in range(size))).hex() == digest
