"""Fork choice: justified first, then blocks, then ties; never below what is final; the same in any order."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.consensus.fork_choice import (
    KNOWN_EPOCHS,
    BlockNode,
    UnknownAncestor,
    checkpoint,
    choose_head,
    descends,
    final_checkpoint,
    genesis_node,
    highest_justified,
    snapshot_block,
    unviable,
)
from noria.consensus.parameters import DEVNET
from noria.consensus.votes import Checkpoint
from noria.primitives.types import Hash32

Tree = dict[Hash32, BlockNode]


def root(name: str) -> Hash32:
    return Hash32(name.encode().ljust(32, b"\0"))


GENESIS = genesis_node(root("g"))
FINAL = Checkpoint(0, root("g"))


def grow(tree: Tree, *names: str, on: str, slot: int | None = None, tie: int = 128) -> None:
    """Add blocks in a line."""
    for name in names:
        parent = tree[root(on)]
        tree[root(name)] = BlockNode(
            root(name),
            parent.root,
            parent.slot + 1 if slot is None else slot,
            parent.height + 1,
            Hash32(bytes([tie]) * 32),
            parent.justified,
            parent.finalised,
        )
        on, slot = name, None


def tell(
    tree: Tree, name: str, *, justified: tuple[int, str] | None = None, final: tuple[int, str] | None = None
) -> None:
    """Let a block say what is justified or final."""
    node = tree[root(name)]
    if justified:
        node = replace(node, justified=Checkpoint(justified[0], root(justified[1])))
    if final:
        node = replace(node, finalised=Checkpoint(final[0], root(final[1])))
    tree[root(name)] = node


@pytest.fixture
def tree() -> Tree:
    """g - a1 - a2 - a3 and, from a1, b2."""
    tree = {GENESIS.root: GENESIS}
    grow(tree, "a1", "a2", "a3", on="g")
    grow(tree, "b2", on="a1")
    return tree


def head(
    tree: Tree,
    final: Checkpoint = FINAL,
    refuted: Sequence[str] = (),
    pending: Sequence[str] = (),
    epoch: int = 1,
) -> str:
    found = choose_head(
        tree, final, epoch, [root(name) for name in refuted], [root(name) for name in pending]
    )
    return found.rstrip(b"\0").decode()


def test_alone_genesis_is_the_head() -> None:
    assert head({GENESIS.root: GENESIS}) == "g"


def test_the_chain_with_the_most_blocks_wins(tree: Tree) -> None:
    assert head(tree) == "a3"
    grow(tree, "b3", "b4", on="b2")
    assert head(tree) == "b4"


def test_blocks_count_and_slots_do_not(tree: Tree) -> None:
    grow(tree, "b3", on="b2", slot=1000, tie=200)
    assert head(tree) == "a3"


def test_a_tie_goes_to_the_lower_lot_where_the_chains_part(tree: Tree) -> None:
    grow(tree, "b3", on="b2", tie=0)  # lower only at the second difference
    assert head(tree) == "a3"  # equal at the first one, where the lower root wins
    tree[root("b2")] = replace(tree[root("b2")], tie=Hash32(bytes([127]) * 32))
    assert head(tree) == "b3"
    tree[root("b2")] = replace(tree[root("b2")], tie=Hash32(bytes([129]) * 32))
    assert head(tree) == "a3"


def test_equal_lots_go_to_the_lower_root(tree: Tree) -> None:
    grow(tree, "b3", on="b2")
    assert head(tree) == "a3"  # a2 < b2


def test_a_justified_checkpoint_outweighs_any_number_of_blocks(tree: Tree) -> None:
    grow(tree, "a4", "a5", "a6", on="a3")
    tell(tree, "b2", justified=(1, "b2"))
    assert head(tree) == "b2"
    grow(tree, "b3", on="b2")
    assert head(tree) == "b3"
    tell(tree, "a6", justified=(2, "a3"))
    assert head(tree) == "a6"


def test_a_justification_learned_on_one_branch_counts_at_once_for_where_it_starts(tree: Tree) -> None:
    # b2 justifies a1; the longer chain goes through a1 too.
    tell(tree, "b2", justified=(1, "a1"))
    grow(tree, "c1", "c2", "c3", "c4", on="g")
    assert head(tree) == "a3"


def test_a_longer_chain_that_does_not_know_the_justification_for_two_epochs_is_given_up(tree: Tree) -> None:
    # Those who have voted from a1 must not vote from genesis, from which a3 would have them vote.
    tell(tree, "b2", justified=(1, "a1"))
    assert [head(tree, epoch=epoch) for epoch in range(5)] == ["a3", "a3", "a3", "b2", "b2"]
    grow(tree, "a4", "a5", on="a3")
    assert head(tree, epoch=3) == "b2"
    tell(tree, "a5", justified=(1, "a1"))
    assert head(tree, epoch=3) == "a5"


def test_a_first_block_with_the_votes_takes_no_block_back(tree: Tree) -> None:
    # In epoch 5, of chains that justify every epoch: b2 has the votes for it, and a3 is about to.
    grow(tree, "a4", "a5", on="a3")
    for name in ("a1", "a2", "a3", "a4", "a5"):
        tell(tree, name, justified=(4, "g"))
    tell(tree, "b2", justified=(5, "a1"))
    assert head(tree, epoch=5) == "a5"
    assert head(tree, epoch=6) == "a5"
    assert head(tree, epoch=7) == "b2"


def test_a_new_justification_takes_no_block_back_however_old_the_last_one_is(tree: Tree) -> None:
    # Too many were away for many epochs; a block beside the chain is the first that has their votes.
    tell(tree, "b2", justified=(30, "a1"))
    assert [head(tree, epoch=epoch) for epoch in (30, 31, 32)] == ["a3", "a3", "b2"]
    # What the chain justifies until then is newer, and it stays.
    tell(tree, "a3", justified=(31, "a1"))
    assert [head(tree, epoch=epoch) for epoch in (31, 32, 33, 50)] == ["a3", "a3", "a3", "a3"]


def test_of_chains_that_all_justified_long_ago_the_newest_justification_wins(tree: Tree) -> None:
    tell(tree, "a3", justified=(1, "a1"))
    tell(tree, "b2", justified=(2, "a1"))
    assert [head(tree, epoch=epoch) for epoch in (3, 4, 50)] == ["a3", "b2", "b2"]


def test_what_is_known_beside_the_highest_justified_checkpoint_binds_its_voters_too(tree: Tree) -> None:
    # Who has voted from what c1 knows may not vote from genesis. An attacker that shows something newer
    # beside the chain in each epoch, here b2, does not keep the chain that knows neither.
    grow(tree, "c1", on="g")
    tell(tree, "c1", justified=(4, "g"))
    tell(tree, "b2", justified=(5, "a1"))
    assert [head(tree, epoch=epoch) for epoch in (5, 6, 7)] == ["a3", "b2", "b2"]
    assert head(tree, epoch=6, refuted=["c1"]) == "a3"
    # What is not on top of the final checkpoint binds nobody.
    assert head(tree, Checkpoint(1, root("a1")), epoch=6) == "a3"


def test_a_final_checkpoint_of_which_no_viable_block_knows_stops_nothing(tree: Tree) -> None:
    # A refuted block has told it.
    final = Checkpoint(7, root("a1"))
    assert head(tree, final, epoch=50) == "a3"
    grow(tree, "b3", "b4", on="b2")
    assert head(tree, final, epoch=50) == "b4"
    assert head(tree, final, epoch=50, refuted=["b4", "a3"]) == "b3"


def test_nothing_below_the_final_checkpoint_is_chosen(tree: Tree) -> None:
    grow(tree, "a4", "a5", on="a3")
    tell(tree, "a5", justified=(9, "a3"))
    assert head(tree, Checkpoint(1, root("b2"))) == "b2"


def test_the_final_block_must_be_known(tree: Tree) -> None:
    with pytest.raises(UnknownAncestor, match="is not among the 5 known ones"):
        choose_head(tree, Checkpoint(1, root("x")), 1)


def test_a_refuted_block_and_what_follows_it_cannot_be_head(tree: Tree) -> None:
    assert head(tree, refuted=["a2"]) == "b2"
    assert head(tree, refuted=["a2", "b2"]) == "a1"
    assert head(tree, pending=["a3"]) == "a2"
    assert head(tree, refuted=["a1"]) == "g"


def test_what_only_refuted_blocks_say_is_not_justified(tree: Tree) -> None:
    tell(tree, "b2", justified=(1, "b2"))
    assert head(tree, refuted=["b2"]) == "a3"


def test_finality_makes_a_refuted_block_valid_for_ever(tree: Tree) -> None:
    grow(tree, "a4", on="a3")
    tell(tree, "a4", final=(1, "a3"))
    final = final_checkpoint(tree, FINAL)
    assert final == Checkpoint(1, root("a3"))
    assert head(tree, final, refuted=["a2"]) == "a4"
    assert unviable(tree, final, [root("a2"), root("b2")]) == {root("b2")}


def test_the_highest_final_checkpoint_on_the_own_chain_counts(tree: Tree) -> None:
    tell(tree, "a3", final=(1, "a2"))
    tell(tree, "b2", final=(2, "b2"))
    assert final_checkpoint(tree, FINAL) == Checkpoint(2, root("b2"))
    # A node that holds a2 as final never leaves it.
    assert final_checkpoint(tree, Checkpoint(1, root("a2"))) == Checkpoint(1, root("a2"))


def test_equally_high_justified_checkpoints_are_told_apart_by_root(tree: Tree) -> None:
    tell(tree, "a3", justified=(1, "a2"))
    tell(tree, "b2", justified=(1, "b2"))
    assert highest_justified(tree, FINAL, ()) == Checkpoint(1, root("a2"))
    assert head(tree) == "a3"


def test_a_mapping_that_bites_its_tail_is_still_walked_to_an_end(tree: Tree) -> None:
    tree[root("g")] = replace(GENESIS, parent_root=root("a3"))
    assert head(tree) == "a3"
    assert not descends(tree, root("a1"), root("x"))
    assert unviable(tree, FINAL, [root("b2")]) == {root("b2")}


def test_descent(tree: Tree) -> None:
    assert descends(tree, root("a3"), root("a1"))
    assert descends(tree, root("a1"), root("a1"))
    assert not descends(tree, root("a1"), root("a3"))
    assert not descends(tree, root("b2"), root("a2"))
    assert not descends(tree, root("x"), root("a1"))
    assert not descends(tree, root("a1"), root("x"))


def test_checkpoints_are_the_last_blocks_before_an_epoch() -> None:
    tree = {GENESIS.root: GENESIS}
    for name, on, slot in (("a", "g", 3), ("b", "a", 15), ("c", "b", 16), ("d", "c", 50)):
        grow(tree, name, on=on, slot=slot)
    found = [checkpoint(DEVNET, tree, root("d"), epoch).root for epoch in range(6)]
    assert found == [root(name) for name in ("g", "b", "c", "c", "d", "d")]
    # Snapshots come from one epoch earlier.
    assert [snapshot_block(DEVNET, tree, root("d"), epoch) for epoch in range(6)] == [
        root(name) for name in ("g", "g", "b", "c", "c", "d")
    ]
    del tree[root("a")]
    with pytest.raises(UnknownAncestor, match="checkpoint of epoch 0"):
        checkpoint(DEVNET, tree, root("d"), 0)


def test_the_head_is_the_same_in_every_order_of_arrival(tree: Tree) -> None:
    grow(tree, "b3", on="b2", tie=1)
    expected = head(tree)
    for order in permutations(tree):
        assert choose_head({key: tree[key] for key in order}, FINAL, 1).rstrip(b"\0").decode() == expected


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    nodes = [GENESIS]
    for number in range(draw(st.integers(0, 14))):
        parent = nodes[draw(st.integers(0, len(nodes) - 1))]
        node = BlockNode(
            root(f"n{number}"),
            parent.root,
            parent.slot + draw(st.integers(1, 3)),
            parent.height + 1,
            Hash32(bytes([draw(st.integers(0, 2))]) * 32),
            parent.justified,
            parent.finalised,
        )
        if draw(st.integers(0, 3)) == 0:
            ancestors = [node]
            while ancestors[-1].parent_root in {other.root for other in nodes}:
                ancestors.append(next(other for other in nodes if other.root == ancestors[-1].parent_root))
            target = draw(st.sampled_from(ancestors))
            told = Checkpoint(draw(st.integers(1, 5)), target.root)
            node = replace(node, justified=max(told, node.justified, key=lambda one: one.epoch))
        nodes.append(node)
    return {node.root: node for node in nodes}


@given(trees(), st.integers(0, 8), st.data())
def test_any_order_gives_the_same_viable_head(tree: Tree, epoch: int, data: st.DataObject) -> None:
    shuffled = {key: tree[key] for key in data.draw(st.permutations(list(tree)))}
    refuted = data.draw(st.sets(st.sampled_from(list(tree)), max_size=3)) - {GENESIS.root}
    found = choose_head(tree, FINAL, epoch, refuted)
    assert choose_head(shuffled, FINAL, epoch, refuted) == found
    out = unviable(tree, FINAL, refuted)
    assert found not in out
    start = highest_justified(tree, FINAL, out)
    assert all(node.justified.epoch <= start.epoch for node in tree.values() if node.root not in out)
    # A plain second writing of the rule: which viable blocks above the justified one may be head at all, ...
    rivals = [node for key, node in tree.items() if key not in out and descends(tree, key, start.root)]
    viable = [node for key, node in tree.items() if key not in out]
    old = [node.justified.epoch for node in viable if epoch - node.justified.epoch >= KNOWN_EPOCHS]
    allowed = [node for node in rivals if all(node.justified.epoch >= one for one in old)]
    assert allowed
    # ... and none of these is higher.
    assert tree[found] in allowed
    assert tree[found].height == max(node.height for node in allowed)
    for key in tree:
        tainted = any(descends(tree, key, bad) for bad in refuted)
        assert (key in out) == tainted
