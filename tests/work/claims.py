"""Receipts for tests, and strategies that draw them."""

from collections.abc import Sequence

from hypothesis import strategies as st

from noria.primitives.hashes import blake3
from noria.primitives.types import UINT64_MAX, Address, Hash32
from noria.work.ids import BlobId, UnitId
from noria.work.receipts import Receipt, Status

GENESIS = Hash32(b"\x11" * 32)
MINER = Address(b"\x22" * 20)


def word(*parts: object) -> Hash32:
    """Some hash that differs for different parts."""
    return blake3(repr(parts).encode())


def receipt(
    index: int = 0,
    fuel: int = 1000,
    weight: int | None = None,
    *,
    genesis_root: Hash32 = GENESIS,
    job: int = 7,
    k: int = 1,
    miner: Address = MINER,
    status: Status = Status.OK,
) -> Receipt:
    """A receipt that weighs its fuel unless told otherwise."""
    return Receipt(
        genesis_root=genesis_root,
        job=job,
        k=k,
        miner=miner,
        index=index,
        unit_id=UnitId(word("unit", index)),
        output_id=BlobId(word("output", index)),
        status=status,
        fuel=fuel,
        weight=fuel if weight is None else weight,
    )


def claims(fuels: Sequence[tuple[int, bool]], first_index: int = 0) -> list[Receipt]:
    """One receipt for each (fuel, whether it weighs), with consecutive indices."""
    return [
        receipt(index, fuel, fuel if weighs else 0) for index, (fuel, weighs) in enumerate(fuels, first_index)
    ]


hashes = st.binary(min_size=32, max_size=32).map(Hash32)


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    """Any receipt at all."""
    fuel = draw(st.integers(0, UINT64_MAX))
    return Receipt(
        genesis_root=draw(hashes),
        job=draw(st.integers(0, 2**256 - 1)),
        k=draw(st.integers(0, 2**32 - 1)),
        miner=Address(draw(st.binary(min_size=20, max_size=20))),
        index=draw(st.integers(0, UINT64_MAX)),
        unit_id=UnitId(draw(hashes)),
        output_id=BlobId(draw(hashes)),
        status=draw(st.sampled_from(Status)),
        fuel=fuel,
        weight=draw(st.sampled_from([0, fuel])),
    )


fuel_lists = st.lists(
    st.tuples(st.integers(0, 3) | st.integers(0, 2**57), st.booleans()), min_size=1, max_size=67
)
"""What `claims` takes: small numbers, so that offsets meet boundaries, and large ones."""
first_indices = st.integers(0, 5) | st.integers(0, UINT64_MAX - 67)
