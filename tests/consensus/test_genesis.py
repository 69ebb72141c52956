"""Genesis: two chains that differ in anything have different roots."""

from dataclasses import replace

import pytest

from noria.consensus.genesis import (
    ChainDraft,
    Genesis,
    InvalidGenesis,
    draft_root,
    genesis_root,
    genesis_states,
)
from noria.consensus.parameters import DEVNET
from noria.consensus.votes import Checkpoint
from noria.execution.genesis import origin_root, possession_message
from noria.primitives.hashes import blake3
from noria.primitives.types import Address, Hash32
from noria.work.ids import program_id
from tests.consensus.world import address, bls_key

DRAFT = ChainDraft(
    name="test",
    chain_id=5,
    genesis_seconds=1_700_000_000,
    parameters=DEVNET,
    hardforks=(("osaka", 0),),
    instrumenter_version=1,
    pinned_programs=frozenset({program_id(b"a"), program_id(b"b")}),
    grants={address(0): 10, address(1): 20},
)
GENESIS = Genesis(DRAFT, Hash32(b"\x01" * 32), Hash32(b"\x02" * 32))


def test_each_field_changes_the_root() -> None:
    drafts = [
        DRAFT,
        replace(DRAFT, name="test2"),
        replace(DRAFT, chain_id=6),
        replace(DRAFT, genesis_seconds=1),
        replace(DRAFT, parameters=replace(DEVNET, jail_epochs=33)),
        replace(DRAFT, hardforks=(("osaka", 1),)),
        replace(DRAFT, hardforks=(("prague", 0), ("osaka", 0))),
        replace(DRAFT, instrumenter_version=2),
        replace(DRAFT, pinned_programs=frozenset({program_id(b"a")})),
        replace(DRAFT, grants={address(0): 10}),
        replace(DRAFT, grants={address(0): 10, address(1): 21}),
    ]
    assert len({draft_root(draft) for draft in drafts}) == len(drafts)
    roots = {genesis_root(replace(GENESIS, draft=draft)) for draft in drafts}
    roots |= {
        genesis_root(replace(GENESIS, payload_hash=Hash32(bytes(32)))),
        genesis_root(replace(GENESIS, state_root=Hash32(bytes(32)))),
        draft_root(DRAFT),
    }
    assert len(roots) == len(drafts) + 3


def test_the_order_of_grants_and_programs_does_not_matter() -> None:
    backwards = replace(DRAFT, grants={address(1): 20, address(0): 10})
    assert draft_root(backwards) == draft_root(DRAFT)


def test_the_chain_starts_from_its_root() -> None:
    root = genesis_root(GENESIS)
    randomness, finality = genesis_states(root)
    assert randomness.eta == blake3(b"noria/eta/1" + root)
    assert finality.justified == finality.finalised == Checkpoint(0, root)


def test_possession_is_proven_for_one_address_on_one_chain() -> None:
    root, origin = genesis_root(GENESIS), origin_root("a", 1, 2)
    messages = {
        possession_message(root, address(0), bls_key(0)),
        possession_message(origin, address(0), bls_key(0)),
        possession_message(root, address(1), bls_key(0)),
        possession_message(root, address(0), bls_key(1)),
    }
    assert {len(message) for message in messages} == {111}
    assert len(messages) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name: '' is not 1 to 64"),
        ({"name": "ä"}, r"name: '\\xe4'"),
        ({"name": "a" * 65}, "name: "),
        ({"chain_id": 2**64}, "chain_id: 18446744073709551616 does not fit"),
        ({"genesis_seconds": -1}, "genesis_seconds: -1"),
        ({"instrumenter_version": -1}, "instrumenter_version"),
        ({"grants": {address(0): 0}}, "grants: 0 for 0x"),
        ({"grants": {address(0): 2**64}}, "grants: "),
        ({"grants": {Address(b""): 1}}, "grants: 1 for 0x is not"),
        (
            {"grants": {address(n): 1 for n in range(3)}, "parameters": replace(DEVNET, miners_max=2)},
            "grants: 3, at most 2",
        ),
    ],
)
def test_impossible_drafts_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidGenesis, match=message) as caught:
        replace(DRAFT, **change)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["payload_hash", "state_root"])
def test_short_hashes_are_named(field: str) -> None:
    with pytest.raises(InvalidGenesis, match=f"{field}: has 31 bytes"):
        replace(GENESIS, **{field: Hash32(bytes(31))})  # type: ignore[arg-type]
