"""The committed vectors, against the code and against a second, plain writing of protocol 4.

The second writing shares nothing with the first but the hashes: it encodes RLP by itself, computes with
fractions, and walks where the code halves. The vectors never change: another value is another protocol.
"""

import json
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from py_ecc.bls import G2ProofOfPossession as Oracle

from noria.consensus.alarms import decode_alarm
from noria.consensus.bitfield import positions_of
from noria.consensus.blocks import decode_block
from noria.consensus.certificate import decode_certificate
from noria.consensus.headers import block_root
from noria.consensus.slashing import decode_evidence
from noria.consensus.votes import decode_signed_vote, decode_votes
from noria.primitives.hashes import blake3, keccak256
from noria.primitives.keys import BlsSecretKey, bls_verify
from noria.primitives.types import Hash32
from tests.consensus.make_vectors import documents
from tests.consensus.vector_values import NETWORKS, VECTORS

FILES: dict[str, Any] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(VECTORS.glob("*.json"))
}


def raw(text: str) -> bytes:
    assert text.startswith("0x")
    return bytes.fromhex(text[2:])


def number(text: str | int) -> int:
    return int(text)


# ---------------------------------------------------------------- the second writing of RLP


def big_endian(value: int) -> bytes:
    digits = bytearray()
    while value:
        value, digit = divmod(value, 256)
        digits.insert(0, digit)
    return bytes(digits)


def rlp(item: Any) -> bytes:
    if isinstance(item, int):
        return rlp(big_endian(item))
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 128:
            return item
        return prefix(128, len(item)) + item
    body = b"".join(rlp(part) for part in item)
    return prefix(192, len(body)) + body


def prefix(base: int, size: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    digits = big_endian(size)
    return bytes([base + 55 + len(digits)]) + digits


def eight(value: str | int) -> bytes:
    return number(value).to_bytes(8, "big")


# ---------------------------------------------------------------- the code still says so


def test_the_code_gives_the_committed_vectors() -> None:
    made = documents()
    assert set(FILES) == set(made)
    for name, document in made.items():
        assert json.loads(json.dumps(document)) == FILES[name], name


# ---------------------------------------------------------------- weight


def test_credit() -> None:
    for case in FILES["weight"]["credits"]:
        share = Fraction(NETWORKS[case["network"]].fee_basis_points, 10_000)
        backed = Fraction(number(case["fee_paid_wei"])) / (share * number(case["floor_wei"]))
        assert number(case["credit"]) == min(number(case["batch_weight"]), floor(backed))


def test_floors() -> None:
    for case in FILES["weight"]["floors"]:
        now, paid, credit = (number(case[key]) for key in ("floor_wei", "paid_wei", "credit"))
        least = NETWORKS[case["network"]].floor_min_wei
        goal = Fraction(paid, 2 * credit) if credit else Fraction(0)
        highest, lowest = now + now // 8, now - now // 8
        expected = highest if goal > highest else lowest if goal < lowest else floor(goal)
        assert number(case["next_floor_wei"]) == max(least, expected)


def test_grants() -> None:
    for case in FILES["weight"]["grants"]:
        grant, epoch, span = (
            number(case["grant"]),
            number(case["epoch"]),
            NETWORKS[case["network"]].grant_epochs,
        )
        if span == 0 or epoch <= span:
            expected = grant
        elif epoch >= 2 * span:
            expected = grant - floor(Fraction(7 * grant, 8))
        else:
            expected = grant - floor(Fraction(7 * grant, 8) * Fraction(epoch - span, span))
        assert number(case["left"]) == expected


def test_snapshots() -> None:
    for case in FILES["weight"]["snapshots"]:
        parameters, epoch = NETWORKS[case["network"]], number(case["epoch"])
        counted = range(max(epoch, 2) - 1 - parameters.window_epochs, max(epoch, 2) - 1)
        assert number(case["window"][0]) == max(counted[0], 0)
        assert number(case["window"][1]) == counted[-1]
        rows: list[list[Any]] = []
        for miner in sorted(case["miners"], key=lambda miner: str(miner["miner"])):
            credits = [(number(entry["epoch"]), number(entry["credit"])) for entry in miner["credits"]]
            before = sum(credit for at, credit in credits if at < counted[0])
            inside = sum(credit for at, credit in credits if at in counted)
            covered = number(miner["bond_wei"]) // parameters.bond_per_weight_wei
            grant = number(miner["grant"])
            assert parameters.grant_epochs == 0 or epoch < parameters.grant_epochs
            weight = min(inside, covered) + grant
            if weight and number(miner["bond_wei"]) >= number(case["bond_min_wei"]):
                rows.append(
                    [raw(miner["miner"]), raw(miner["bls_key"]), before, before + inside, weight, grant]
                )
        found = [[raw(row[0]), raw(row[1]), *(number(value) for value in row[2:])] for row in case["rows"]]
        assert found == rows
        assert number(case["total_weight"]) == sum(row[4] for row in rows)
        root = blake3(b"noria/snapshot/1" + raw(case["genesis_root"]) + rlp([epoch, rows]))
        assert raw(case["root"]) == root


# ---------------------------------------------------------------- lottery


def test_lottery() -> None:
    document = FILES["lottery"]
    root = raw(document["genesis_root"])
    running = blake3(b"noria/eta/1" + root)
    assert raw(document["genesis_eta"]) == running
    randao, epoch, eta = Hash32(raw(document["genesis_prev_randao"])), 0, running
    for block in document["blocks"]:
        slot, proof = number(block["slot"]), raw(block["vrf_proof"])
        if slot // 16 != epoch:
            epoch = slot // 16
            eta = blake3(b"noria/eta/1" + running + eight(epoch))
        assert raw(block["eta"]) == eta
        message = b"noria/vrf/1" + root + eta + eight(slot)
        assert raw(block["message"]) == message
        assert proof == Oracle.Sign(int.from_bytes(raw(block["secret_key"]), "big"), message)
        assert bls_verify(raw(block["public_key"]), message, proof)
        if slot % 16 < floor(Fraction(2 * 16, 3)):
            running = blake3(b"noria/eta/1" + running + proof)
        assert raw(block["running"]) == running
        randao = blake3(b"noria/randao/1" + randao + proof)
        assert raw(block["prev_randao"]) == randao
        lot = int.from_bytes(blake3(b"noria/lot/1" + proof), "big")
        assert number(block["lot"]) == lot
        weight, total = number(block["weight"]), number(block["total_weight"])
        for name, parameters in NETWORKS.items():
            share = Fraction(parameters.win_numerator * weight, parameters.win_denominator * total)
            assert block["wins"][name] is bool(Fraction(lot, 2**256) < share)
        assert number(block["draw"]) == int.from_bytes(blake3(b"noria/draw/1" + proof), "big") % weight
        assert raw(block["tie"]) == blake3(b"noria/tie/1" + proof)


def test_lottery_vectors_show_both_outcomes() -> None:
    for name in NETWORKS:
        assert {block["wins"][name] for block in FILES["lottery"]["blocks"]} == {True, False}


# ---------------------------------------------------------------- certificates


def test_named_receipts() -> None:
    document = FILES["certificates"]
    batches = [
        ([number(fuel) for fuel in batch["fuels"]], number(batch["credit"])) for batch in document["batches"]
    ]
    for row in document["rows"]:
        lo, hi, weight, grant = (number(row[key]) for key in ("lo", "hi", "weight", "grant"))
        assert len(row["named"]) == weight
        for x, named in enumerate(row["named"]):
            if x < grant:
                assert named is None
                continue
            position = lo + floor(Fraction(x - grant, weight - grant) * (hi - lo))
            # Walk through the batches, then through the receipts.
            job = 0
            while position >= batches[job][1]:
                position -= batches[job][1]
                job += 1
            fuels, credit = batches[job]
            offset = rest = floor(Fraction(position, credit) * sum(fuels))
            index = 0
            while rest >= fuels[index]:
                rest -= fuels[index]
                index += 1
            assert [number(value) for value in named] == [job, offset, index]


def test_certificate_encodings() -> None:
    document = FILES["certificates"]
    assert raw(document["empty"]["certificate"]) == rlp([])
    for case in [document["empty"], *document["encodings"]]:
        data = raw(case["certificate"])
        assert raw(case["hash"]) == blake3(b"noria/certificate/1" + data)
        certificate = decode_certificate(data)
        if certificate is not None:
            proof = certificate.proof
            path = b"".join(node.hash + eight(node.fuel) + eight(node.weight) for node in proof.siblings)
            receipt = proof.receipt.encode()
            assert data == rlp(
                [
                    receipt + path,
                    bytes(certificate.program),
                    bytes(certificate.input_id),
                    certificate.fuel_limit,
                ]
            )


# ---------------------------------------------------------------- votes


def plain_vote(vote: dict[str, Any]) -> list[Any]:
    return [
        number(vote["source"]["epoch"]),
        raw(vote["source"]["root"]),
        number(vote["target"]["epoch"]),
        raw(vote["target"]["root"]),
    ]


def test_votes() -> None:
    document = FILES["votes"]
    vote = plain_vote(document["vote"])
    message = (
        b"noria/vote/1" + raw(document["genesis_root"]) + eight(vote[0]) + vote[1] + eight(vote[2]) + vote[3]
    )
    assert raw(document["message"]) == message
    for miner in document["miners"]:
        signature = Oracle.Sign(int.from_bytes(raw(miner["secret_key"]), "big"), message)
        assert raw(miner["signature"]) == signature
        assert raw(miner["encoding"]) == rlp([*vote, raw(miner["miner"]), signature])
        assert decode_signed_vote(raw(miner["encoding"])).miner == raw(miner["miner"])
    ordered = sorted(document["miners"], key=lambda miner: str(miner["miner"]))
    encoded = []
    for aggregate in document["aggregates"]:
        bits, signature = number(aggregate["bits"]), raw(aggregate["signature"])
        keys = [raw(miner["public_key"]) for place, miner in enumerate(ordered) if bits // 2**place % 2]
        assert Oracle.FastAggregateVerify(keys, message, signature)
        encoded.append([*vote, bits.to_bytes(1, "little"), signature])
    assert raw(document["encoding"]) == rlp(encoded)
    assert raw(document["hash"]) == blake3(b"noria/votes/1" + rlp(encoded))
    assert [positions_of(one.bits) for one in decode_votes(raw(document["encoding"]))] == [
        [place for place in range(4) if number(one["bits"]) >> place & 1] for one in document["aggregates"]
    ]
    assert raw(document["no_votes"]["encoding"]) == b"\xc0"
    assert raw(document["no_votes"]["hash"]) == blake3(b"noria/votes/1\xc0")


def test_alarms() -> None:
    document = FILES["alarms"]
    for row in document["alarms"]:
        message = b"noria/alarm/1" + raw(document["genesis_root"]) + raw(row["block_root"])
        assert raw(row["message"]) == message
        secret = int.from_bytes(raw(row["secret_key"]), "big")
        assert raw(row["public_key"]) == Oracle.SkToPk(secret)
        assert raw(row["signature"]) == Oracle.Sign(secret, message)
        assert raw(row["encoding"]) == rlp([raw(row[name]) for name in ("block_root", "miner", "signature")])
        found = decode_alarm(raw(row["encoding"]))
        assert [found.block_root, found.miner, found.signature] == [
            raw(row[name]) for name in ("block_root", "miner", "signature")
        ]
    assert len({row["encoding"] for row in document["alarms"]}) == len(document["alarms"]) == 4


# ---------------------------------------------------------------- finality


def test_finality() -> None:
    """The rules over the whole history at once, where the code carries a state along."""
    document = FILES["finality"]
    weights = [number(weight) for weight in document["weights"]]
    chain = [(0, document["genesis_root"])]
    cast: dict[int, int] = {}
    sources: dict[int, int] = {}
    justified, final = {0}, {0}
    for block in document["blocks"]:
        epoch = number(block["epoch"])
        for begun in range(chain[-1][0] + 1, epoch + 1):
            sources[begun] = max(justified)
        for vote in block["votes"]:
            target = number(vote["target_epoch"])
            assert target in (epoch, epoch - 1)
            cast[target] = cast.get(target, 0) | number(vote["bits"])
            share = Fraction(sum(w for n, w in enumerate(weights) if cast[target] >> n & 1), sum(weights))
            if share > Fraction(2, 3):
                justified.add(target)
                if sources[target] == target - 1:
                    final.add(target - 1)

        def checkpoint(number_: int) -> dict[str, Any]:
            # The last block whose epoch is older; genesis for epoch 0.
            root = next((root for at, root in reversed(chain) if at < number_), chain[0][1])
            return {"epoch": str(number_), "root": root}

        after = block["after"]
        assert after["justified"] == checkpoint(max(justified))
        assert after["finalised"] == checkpoint(max(final))
        for tally in after["tallies"]:
            target = number(tally["target"]["epoch"])
            assert target in (epoch, epoch - 1)
            assert tally["target"] == checkpoint(target)
            assert tally["source"] == checkpoint(sources[target])
            assert number(tally["bits"]) == cast.get(target, 0)
        chain.append((epoch, block["root"]))
    assert {max(justified), max(final)} == {10, 9}


# ---------------------------------------------------------------- genesis and blocks


def test_genesis_roots() -> None:
    for draft in FILES["blocks"]["drafts"]:
        encoded = rlp(
            [
                draft["name"].encode(),
                number(draft["chain_id"]),
                number(draft["genesis_seconds"]),
                [number(value) for value in draft["parameters"]],
                [[name.encode(), number(time)] for name, time in draft["hardforks"]],
                number(draft["instrumenter_version"]),
                sorted(raw(program) for program in draft["pinned_programs"]),
                sorted([raw(miner), number(grant)] for miner, grant in draft["grants"]),
            ]
        )
        root = blake3(b"noria/draft/1" + encoded)
        assert raw(draft["draft_root"]) == root
        full = blake3(b"noria/genesis/1" + root + raw(draft["payload_hash"]) + raw(draft["state_root"]))
        assert raw(draft["genesis_root"]) == full
        assert raw(draft["possession"])[:43] == b"noria/pop/1" + full


def test_origins() -> None:
    document = FILES["origins"]
    for row in document["origins"]:
        encoded = rlp([row["name"].encode(), number(row["chain_id"]), number(row["timestamp"])])
        assert raw(row["origin"]) == blake3(b"noria/origin/1" + encoded)
        assert raw(row["possession"]) == (
            b"noria/pop/1" + raw(row["origin"]) + raw(document["miner"]) + raw(document["public_key"])
        )
    assert len({row["origin"] for row in document["origins"]}) == len(document["origins"]) == 5


def test_blocks() -> None:
    document = FILES["blocks"]
    root = Hash32(raw(document["genesis_root"]))
    for block in document["blocks"]:
        header = [number(block["header"][0]), *(raw(value) for value in block["header"][1:])]
        certificate, votes, evidence, payload = (
            raw(block[key]) for key in ("certificate", "votes", "evidence", "payload")
        )
        assert header[4] == blake3(b"noria/certificate/1" + certificate)
        assert header[5] == blake3(b"noria/votes/1" + votes)
        assert header[6] == blake3(b"noria/evidence/1" + evidence) == raw(block["evidence_hash"])
        # The payload's header is its first item: three bytes of outer prefix, then what its own prefix says.
        start = 3
        size = int.from_bytes(payload[start + 1 : start + 3], "big")
        assert payload[start] == 0xF9
        assert header[7] == keccak256(payload[start : start + 3 + size])
        found = blake3(b"noria/block/1" + root + rlp(header))
        assert raw(block["root"]) == found
        assert raw(block["signature"]) == BlsSecretKey(raw(block["secret_key"])).sign(found)
        signature = bytes(96)
        assert raw(block["encoding"]) == rlp([*header[:4], certificate, votes, evidence, payload, signature])
        decoded = decode_block(raw(block["encoding"]))
        assert block_root(root, decoded.header) == found
        assert decode_evidence(evidence) == decoded.evidence
        assert len(decoded.votes) == (1 if decoded.certificate else 0)


# ---------------------------------------------------------------- slashing


def test_offences() -> None:
    for pair in FILES["slashing"]["pairs"]:
        (s1, _, t1, r1), (s2, _, t2, r2) = plain_vote(pair["first"]), plain_vote(pair["second"])
        different = (s1, t1, r1) != (s2, t2, r2)
        assert pair["slashable"] == ((different and t1 == t2) or s1 < s2 < t2 < t1 or s2 < s1 < t1 < t2)
    assert {pair["slashable"] for pair in FILES["slashing"]["pairs"]} == {True, False}


def test_penalties() -> None:
    for case in FILES["slashing"]["penalties"]:
        bond, price, loss = (number(case[key]) for key in ("bond_wei", "batch_price_wei", "wronged_loss_wei"))
        amount = min(bond, 64 * price)
        rest = floor(Fraction(amount, 2))
        wronged = min(rest, loss)
        expected = [amount, amount - rest, wronged, rest - wronged]
        assert [number(case[key]) for key in ("amount", "burned", "wronged", "prover")] == expected


# ---------------------------------------------------------------- time, money, heads


def test_slots() -> None:
    for row in FILES["slots"]["slots"]:
        parameters, slot = NETWORKS[row["network"]], number(row["slot"])
        size = parameters.epoch_slots
        epoch, within = divmod(slot, size)
        assert number(row["start_seconds"]) == 1_700_000_000 + slot * parameters.slot_seconds
        assert number(row["epoch"]) == epoch
        assert number(row["first_slot"]) == slot - within
        assert row["feeds_randomness"] is (within in range(floor(Fraction(2 * size, 3))))
        assert number(row["vote_slot"]) == slot - within + floor(Fraction(size, 4))
        assert number(row["last_waiting_slot"]) == slot - within + floor(Fraction(size, 4)) + floor(
            Fraction(size, 8)
        )


def test_rewards() -> None:
    for row in FILES["rewards"]["rewards"]:
        parameters = NETWORKS[row["network"]]
        fee = floor(Fraction(number(row["price_wei"])) * Fraction(parameters.fee_basis_points, 10_000))
        assert number(row["fee_wei"]) == fee
        assert number(row["to_pool_wei"]) == floor(Fraction(fee, 2))
        assert number(row["burned_wei"]) == fee - floor(Fraction(fee, 2))
        assert number(row["block_reward_wei"]) == floor(
            Fraction(number(row["pool_wei"]), parameters.pool_rate)
        )
        bounds = Fraction(number(row["vault_wei"]), 2**14), Fraction(number(row["fees_of_last_epoch_wei"]), 4)
        assert number(row["subsidy_wei"]) == floor(min(bounds))
    for row in FILES["rewards"]["chances"]:
        parameters = NETWORKS[row["network"]]
        seconds = Fraction(number(row["certificates_per_epoch"]) * number(row["mean_run_milliseconds"]), 1000)
        share = (
            Fraction(parameters.verify_share_percent, 100) * parameters.epoch_slots * parameters.slot_seconds
        )
        assert number(row["chance"]) == floor(min(share / seconds, Fraction(1)) * 2**32)
    assert len({row["chance"] for row in FILES["rewards"]["chances"]}) > 4


def test_fork_choice() -> None:
    """All chains are compared with each other, block by block."""
    for tree in FILES["fork_choice"]["trees"]:
        blocks = {block["root"]: block for block in tree["blocks"]}

        def line(root: str, blocks: dict[str, Any] = blocks) -> list[str]:
            found: list[str] = []
            while root in blocks:
                found.insert(0, root)
                root = blocks[root]["parent_root"]
            return found

        viable = [root for root in blocks if not set(line(root)) & set(tree["refuted"])]
        known = [blocks[root]["justified"] for root in viable]
        best = max(number(one["epoch"]) for one in known)
        start = min(one["root"] for one in known if number(one["epoch"]) == best)
        chains = [line(root) for root in viable if start in line(root)]
        old = [number(one["epoch"]) for one in known if number(one["epoch"]) <= number(tree["epoch"]) - 2]
        newest = {chain[-1]: number(blocks[chain[-1]]["justified"]["epoch"]) for chain in chains}
        chains = [chain for chain in chains if not old or newest[chain[-1]] >= max(old)]
        longest = [chain for chain in chains if len(chain) == max(len(other) for other in chains)]
        winner = min(longest, key=lambda chain: [(blocks[root]["tie"], root) for root in chain])
        assert tree["head"] == winner[-1]
        last = line(max(blocks.values(), key=lambda block: number(block["slot"]))["root"])
        for epoch, root in enumerate(tree["checkpoints"]):
            before = [one for one in last if number(blocks[one]["slot"]) < epoch * 16]
            assert root == (before[-1] if before else last[0])


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_file_says_what_it_is(name: str) -> None:
    assert FILES[name]["about"].endswith(".")
