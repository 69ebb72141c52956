"""Vectors of blocks and of what makes them final (protocol 4.1, 4.2, 4.4, 4.7, 4.8)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noria.consensus.alarms import Alarm, alarm_message, encode_alarm
from noria.consensus.blocks import encode_block, make_block
from noria.consensus.certificate import (
    encode_certificate,
)
from noria.consensus.finality import FinalityState, count_vote, enter_epoch, genesis_finality
from noria.consensus.fork_choice import BlockNode, checkpoint, choose_head, genesis_node
from noria.consensus.genesis import ChainDraft, Genesis, draft_root, genesis_root
from noria.consensus.headers import SignedHeader, block_root
from noria.consensus.lottery import (
    after_block,
    draw,
    eta_for,
    genesis_randomness,
    lot,
    prev_randao,
    tie_break,
    vrf_message,
    wins,
)
from noria.consensus.parameters import DEVNET
from noria.consensus.slashing import (
    AttributedVote,
    ProposalEvidence,
    VoteEvidence,
    encode_evidence,
    evidence_hash,
    lesser_penalty,
    slashable,
)
from noria.consensus.slots import (
    epoch_of,
    feeds_randomness,
    first_slot,
    last_waiting_slot,
    slot_start_seconds,
    vote_slot,
)
from noria.consensus.votes import (
    AggregatedVote,
    Checkpoint,
    SignedVote,
    Vote,
    encode_signed_vote,
    encode_votes,
    vote_message,
    votes_hash,
)
from noria.consensus.weight import (
    Snapshot,
    SnapshotRow,
)
from noria.execution.genesis import origin_root, possession_message
from noria.primitives.types import Address, BlsPublicKey, BlsSignature, Hash32
from noria.work.ids import program_id
from tests.consensus.oracle import ORACLE
from tests.consensus.vector_values import MINERS, NETWORKS, ROOT, SECRETS, number, word
from tests.consensus.world import certificate_at, payload_bytes, unit_batch


def time() -> dict[str, Any]:
    genesis, rows = 1_700_000_000, []
    for name, parameters in NETWORKS.items():
        for slot in (0, 1, 9, 10, 15, 16, 682, 683, 1023, 1024, 5_000_001):
            epoch = epoch_of(parameters, slot)
            rows.append(
                {
                    "network": name,
                    "slot": slot,
                    "start_seconds": slot_start_seconds(parameters, genesis, slot),
                    "epoch": epoch,
                    "first_slot": first_slot(parameters, epoch),
                    "feeds_randomness": feeds_randomness(parameters, slot),
                    "vote_slot": vote_slot(parameters, epoch),
                    "last_waiting_slot": last_waiting_slot(parameters, epoch),
                }
            )
    return {
        "about": "Slots and epochs of protocol 4.2, 4.4 and 4.7.",
        "genesis_seconds": genesis,
        "slots": rows,
    }


def lottery() -> dict[str, Any]:
    state, blocks = genesis_randomness(ROOT), []
    randao = word("genesis randao")
    for n, slot in enumerate((1, 9, 10, 15, 17, 26, 64, 200, 201)):
        secret = SECRETS[n % 4]
        eta = eta_for(state, slot // DEVNET.epoch_slots)
        message = vrf_message(ROOT, eta, slot)
        proof = secret.sign(message)
        state = after_block(DEVNET, state, slot, proof)
        randao = prev_randao(randao, proof)
        total = 10**12
        mine = number(f"mine {n}", total) + 1
        blocks.append(
            {
                "slot": slot,
                "secret_key": secret.secret,
                "public_key": secret.public_key,
                "eta": eta,
                "message": message,
                "vrf_proof": proof,
                "running": state.running,
                "lot": lot(proof),
                "tie": tie_break(proof),
                "prev_randao": randao,
                "weight": mine,
                "total_weight": total,
                "wins": {name: wins(parameters, proof, mine, total) for name, parameters in NETWORKS.items()},
                "draw": draw(proof, mine),
            }
        )
    return {
        "about": "Randomness, proofs, lots and draws of protocol 4.4 on a devnet, one chain of blocks.",
        "genesis_root": ROOT,
        "genesis_eta": genesis_randomness(ROOT).eta,
        "genesis_prev_randao": word("genesis randao"),
        "blocks": blocks,
    }


def votes() -> dict[str, Any]:
    vote = Vote(Checkpoint(3, word("source")), Checkpoint(4, word("target")))
    message = vote_message(ROOT, vote)
    signed = [
        SignedVote(vote, miner, secret.sign(message)) for miner, secret in zip(MINERS, SECRETS, strict=True)
    ]
    order = sorted(MINERS)
    aggregates = []
    for numbers in ((0,), (1, 3), (0, 1, 2, 3)):
        bits = sum(1 << order.index(MINERS[n]) for n in numbers)
        aggregates.append(
            AggregatedVote(vote, bits, ORACLE.aggregate([signed[n].signature for n in numbers]))
        )
    return {
        "about": "Votes of protocol 4.7: message, gossiped votes, and what a block carries. Rows stand by"
        " miner.",
        "genesis_root": ROOT,
        "vote": vote,
        "message": message,
        "miners": [
            {
                "miner": miner,
                "secret_key": secret.secret,
                "public_key": secret.public_key,
                "signature": one.signature,
                "encoding": encode_signed_vote(one),
            }
            for miner, secret, one in zip(MINERS, SECRETS, signed, strict=True)
        ],
        "aggregates": [{"bits": one.bits, "signature": one.signature} for one in aggregates],
        "encoding": encode_votes(aggregates),
        "hash": votes_hash(aggregates),
        "no_votes": {"encoding": encode_votes([]), "hash": votes_hash([])},
    }


def alarms() -> dict[str, Any]:
    rows = []
    for n, (miner, secret) in enumerate(zip(MINERS, SECRETS, strict=True)):
        block = word(f"a lie {n % 2}")
        message = alarm_message(ROOT, block)
        alarm = Alarm(block, miner, secret.sign(message))
        rows.append(
            {
                "block_root": block,
                "miner": miner,
                "secret_key": secret.secret,
                "public_key": secret.public_key,
                "message": message,
                "signature": alarm.signature,
                "encoding": encode_alarm(alarm),
            }
        )
    return {
        "about": "Alarms of protocol 4.5: what who warns signs, and what is gossiped.",
        "genesis_root": ROOT,
        "alarms": rows,
    }


def origins() -> dict[str, Any]:
    rows = []
    for name, chain_id, timestamp in (
        ("noria-devnet", 5_132_114, 1_700_000_000),
        ("noria-devnet", 5_132_114, 1_700_000_001),
        ("noria-devnet", 5_132_115, 1_700_000_000),
        ("n", 1, 1),
        ("a name in two bytes: é, and longer than what one byte of length says of it", 127, 2**32),
    ):
        origin = origin_root(name, chain_id, timestamp)
        rows.append(
            {
                "name": name,
                "chain_id": chain_id,
                "timestamp": timestamp,
                "origin": origin,
                "possession": possession_message(origin, MINERS[0], SECRETS[0].public_key),
            }
        )
    return {
        "about": "The origin of a chain, which what is signed and hashed before its genesis carries in the"
        " place of the genesis root: genesis work, and proofs of possession of the specification's miners.",
        "miner": MINERS[0],
        "public_key": SECRETS[0].public_key,
        "origins": rows,
    }


def finality() -> dict[str, Any]:
    weights = [5, 4, 3, 2, 1]
    rows = tuple(
        SnapshotRow(miner, BlsPublicKey(bytes(48)), 0, 0, weight, weight)
        for miner, weight in zip(sorted(Address(word(f"v{n}")[:20]) for n in range(5)), weights, strict=True)
    )
    voting_set = Snapshot(0, rows)
    # Per block: epoch, and per vote the target's epoch and bits.
    story = [
        (0, []),
        (1, [(1, 0b00011)]),
        (1, [(1, 0b00100)]),
        (2, [(2, 0b00001), (1, 0b11000)]),
        (2, [(2, 0b11110)]),
        (3, [(3, 0b00111)]),
        (4, []),
        (5, [(5, 0b00111), (4, 0b00111)]),
        (8, [(7, 0b11111)]),
        (8, [(8, 0b11111)]),
        (9, [(9, 0b01111)]),
        (10, [(10, 0b10111)]),
    ]
    state, epoch, root, steps = genesis_finality(ROOT), 0, ROOT, []
    for n, (now, cast) in enumerate(story):
        state = enter_epoch(DEVNET, state, root, epoch, now)
        for target, bits in cast:
            tally = next(tally for tally in state.tallies if tally.target.epoch == target)
            state = count_vote(state, AggregatedVote(tally.vote, bits, BlsSignature(bytes(96))), voting_set)
        epoch, root = now, word(f"block {n}")
        steps.append(
            {
                "epoch": now,
                "root": root,
                "votes": [{"target_epoch": target, "bits": bits} for target, bits in cast],
                "after": finality_state(state),
            }
        )
    return {
        "about": "Justification and finality of protocol 4.7 along one chain; every vote is of one set o"
        " weights.",
        "genesis_root": ROOT,
        "weights": weights,
        "blocks": steps,
    }


def finality_state(state: FinalityState) -> dict[str, Any]:
    return {
        "justified": state.justified,
        "finalised": state.finalised,
        "tallies": [
            {"target": t.target, "source": t.source, "voting_epoch": t.voting_epoch, "bits": t.bits}
            for t in state.tallies
        ],
    }


def fork_choice() -> dict[str, Any]:
    trees = []
    for n in range(40):
        # Of the later ones many blocks know something, of all ages.
        epoch = 1 if n < 8 else 2 + n % 6
        nodes = [genesis_node(ROOT)]
        for i in range(14):
            pick = number(f"parent {n} {i}", len(nodes))
            parent = nodes[max(pick, len(nodes) - 4) if i % 3 else pick]
            node = BlockNode(
                word(f"node {n} {i}"),
                parent.root,
                parent.slot + 1 + number(f"gap {n} {i}", 3),
                parent.height + 1,
                Hash32(bytes([number(f"tie {n} {i}", 3)]) * 32),
                parent.justified,
                parent.finalised,
            )
            if n % 2 and i in (4, 9):
                told = Checkpoint(1 + i // 5, parent.root)
            elif n >= 8 and number(f"tells {n} {i}", 3) == 0:
                told = Checkpoint(1 + number(f"told {n} {i}", 5), parent.root if i % 2 else ROOT)
            else:
                told = parent.justified
            if told.epoch > parent.justified.epoch:
                node = replace(node, justified=told)
            nodes.append(node)
        refuted = [nodes[6].root] if n % 4 in (2, 3) else []
        blocks = {node.root: node for node in nodes}
        trees.append(
            {
                "blocks": [
                    {
                        "root": node.root,
                        "parent_root": node.parent_root,
                        "slot": node.slot,
                        "height": node.height,
                        "tie": node.tie,
                        "justified": node.justified,
                    }
                    for node in nodes
                ],
                "epoch": epoch,
                "refuted": refuted,
                "head": choose_head(blocks, Checkpoint(0, ROOT), epoch, refuted),
                "checkpoints": [
                    checkpoint(DEVNET, blocks, max(nodes, key=lambda node: node.slot).root, epoch).root
                    for epoch in range(3)
                ],
            }
        )
    return {
        "about": "Fork choice of protocol 4.7: genesis is final; checkpoints are those of the block of the"
        " last slot.",
        "final": Checkpoint(0, ROOT),
        "trees": trees,
    }


def blocks() -> dict[str, Any]:
    grants = {miner: 10**10 + n for n, miner in enumerate(MINERS)}
    drafts = []
    for name, parameters in NETWORKS.items():
        draft = ChainDraft(
            name=f"vector-{name}",
            chain_id=5_132_114,
            genesis_seconds=1_700_000_000,
            parameters=parameters,
            hardforks=(("prague", 0), ("osaka", 1_700_000_000)),
            instrumenter_version=1,
            pinned_programs=frozenset({program_id(b"one"), program_id(b"two")}),
            grants=grants,
        )
        root = genesis_root(Genesis(draft, word("payload"), word("state")))
        drafts.append(
            {
                "name": draft.name,
                "chain_id": draft.chain_id,
                "genesis_seconds": draft.genesis_seconds,
                "parameters": parameters.numbers(),
                "hardforks": draft.hardforks,
                "instrumenter_version": draft.instrumenter_version,
                "pinned_programs": sorted(draft.pinned_programs),
                "grants": sorted(grants.items()),
                "draft_root": draft_root(draft),
                "payload_hash": word("payload"),
                "state_root": word("state"),
                "genesis_root": root,
                "possession": possession_message(root, MINERS[0], SECRETS[0].public_key),
            }
        )
    secret = SECRETS[1]
    proof = secret.sign(vrf_message(ROOT, genesis_randomness(ROOT).eta, 7))
    vote = Vote(Checkpoint(0, ROOT), Checkpoint(1, word("target")))
    message = vote_message(ROOT, vote)
    aggregate = AggregatedVote(vote, 0b1001, ORACLE.aggregate([one.sign(message) for one in SECRETS[:2]]))
    other = Vote(Checkpoint(0, ROOT), Checkpoint(1, word("other")))
    batch = unit_batch(MINERS[1], [3, 1, 4], genesis=ROOT)
    payload = payload_bytes(
        parent_hash=word("parent payload"),
        number=3,
        timestamp=1_700_000_007,
        randao=prev_randao(word("randao"), proof),
        beacon_root=word("parent"),
    )
    common: dict[str, Any] = {
        "slot": 7,
        "parent_root": word("parent"),
        "proposer": MINERS[1],
        "vrf_proof": proof,
        "payload": payload,
        "signature": BlsSignature(bytes(96)),
    }
    empty = make_block(**common, certificate=None, votes=(), evidence=())
    voted = make_block(**common, certificate=None, votes=(aggregate,), evidence=())
    attributed = [
        AttributedVote(v, (MINERS[0],), SECRETS[0].sign(vote_message(ROOT, v))) for v in (vote, other)
    ]
    evidence = (
        ProposalEvidence(*(SignedHeader(b.header, secret.sign(b.root(ROOT))) for b in (empty, voted))),
        VoteEvidence(*attributed),
    )
    full = make_block(**common, certificate=certificate_at(batch, 4), votes=(aggregate,), evidence=evidence)
    return {
        "about": "Genesis roots, headers and blocks of protocol 4.1. Parameters stand in the order of their"
        " declaration.",
        "drafts": drafts,
        "genesis_root": ROOT,
        "blocks": [
            {
                "secret_key": secret.secret,
                "header": [
                    block.header.slot,
                    block.header.parent_root,
                    block.header.proposer,
                    block.header.vrf_proof,
                    block.header.certificate_hash,
                    block.header.votes_hash,
                    block.header.evidence_hash,
                    block.header.payload_hash,
                ],
                "certificate": encode_certificate(block.certificate),
                "votes": encode_votes(block.votes),
                "evidence": encode_evidence(block.evidence),
                "evidence_hash": evidence_hash(block.evidence),
                "payload": block.payload,
                "root": block_root(ROOT, block.header),
                "signature": secret.sign(block_root(ROOT, block.header)),
                "encoding": encode_block(block),
            }
            for block in (empty, full)
        ],
    }


def slashing() -> dict[str, Any]:
    pairs = []
    spans = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (0, 3)]
    for first in spans:
        for second in spans:
            for root in ("a", "b"):
                one = Vote(Checkpoint(first[0], word("s")), Checkpoint(first[1], word("a")))
                two = Vote(Checkpoint(second[0], word("s")), Checkpoint(second[1], word(root)))
                pairs.append({"first": one, "second": two, "slashable": slashable(one, two)})
    penalties = []
    for n in range(12):
        bond, price, loss = (number(f"{what} {n}", 10 ** (3 * n + 3)) for what in ("bond", "price", "loss"))
        found = lesser_penalty(bond, price, loss)
        penalties.append(
            {
                "bond_wei": bond,
                "batch_price_wei": price,
                "wronged_loss_wei": loss,
                "amount": found.amount,
                "burned": found.burned,
                "wronged": found.wronged,
                "prover": found.prover,
            }
        )
    return {"about": "Offences and penalties of protocol 4.8.", "pairs": pairs, "penalties": penalties}
