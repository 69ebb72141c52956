"""Vectors of what work is worth: weight, certificates, rewards (protocol 4.3, 4.5, 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noria.consensus.certificate import (
    certificate_hash,
    encode_certificate,
    named_receipt,
)
from noria.consensus.parameters import ChainParameters
from noria.consensus.rewards import block_reward, protocol_fee, split_fee, subsidy
from noria.consensus.sampling import check_chance
from noria.consensus.state import MinerRecord
from noria.consensus.weight import (
    SnapshotRow,
    credit_of_batch,
    grant_at,
    next_floor,
    snapshot_root,
    take_snapshot,
    window,
)
from tests.consensus.vector_values import MINERS, NETWORKS, ROOT, SECRETS, number
from tests.consensus.world import certificate_at, state_with, unit_batch


def weight() -> dict[str, Any]:
    credits, floors, grants, snapshots = [], [], [], []
    for name, parameters in NETWORKS.items():
        for n in range(8):
            batch = number(f"batch {n}", 10 ** (6 + n % 6))
            floor = parameters.floor_min_wei + number(f"floor {n}", 10**8)
            fee = number(f"fee {n}", 2 * batch * floor * parameters.fee_basis_points // 10_000 + 1)
            credits.append(
                {
                    "network": name,
                    "batch_weight": batch,
                    "fee_paid_wei": fee,
                    "floor_wei": floor,
                    "credit": credit_of_batch(parameters, batch, fee, floor),
                }
            )
            credit = number(f"credit {n}", 10**9) if n else 0
            paid = number(f"paid {n}", 4 * floor * credit + 1)
            floors.append(
                {
                    "network": name,
                    "floor_wei": floor,
                    "paid_wei": paid,
                    "credit": credit,
                    "next_floor_wei": next_floor(parameters, floor, paid, credit),
                }
            )
        for epoch in (0, 1, 4095, 4096, 4097, 6000, 8191, 8192, 10**6):
            grants.append(
                {
                    "network": name,
                    "grant": 10**10 + 7,
                    "epoch": epoch,
                    "left": grant_at(parameters, 10**10 + 7, epoch),
                }
            )
        for epoch in (0, 1, 2, 5, 500):
            snapshots.append(snapshot_vector(name, parameters, epoch))
    return {
        "about": "Credit, floor price, grants and snapshots of protocol 4.3.",
        "credits": credits,
        "floors": floors,
        "grants": grants,
        "snapshots": snapshots,
    }


def snapshot_vector(name: str, network: ChainParameters, epoch: int) -> dict[str, Any]:
    # So low that bonds cap some of the work, and so high that one is below it.
    parameters = replace(network, bond_min_wei=1000 * network.bond_per_weight_wei)
    miners, records, batches, grants = [], [], {}, {}
    for n, (miner, secret) in enumerate(zip(MINERS, SECRETS, strict=True)):
        bond = parameters.bond_per_weight_wei * number(f"bond {n}", 5000)
        entries, at = [], 0
        for job in range(6):
            at += number(f"epoch {n} {job}", 1 + 2 * max(epoch, 1))
            entries.append(
                (unit_batch(miner, [1 + number(f"fuel {n} {job}", 4000)], job=job), at, 1 + n + job * 700)
            )
        records.append(MinerRecord(miner, secret.public_key, bond))
        batches[miner] = entries
        if n % 2:
            grants[miner] = 1000 * n
        miners.append(
            {
                "miner": miner,
                "bls_key": secret.public_key,
                "bond_wei": bond,
                "grant": grants.get(miner, 0),
                "credits": [{"epoch": at, "credit": credit} for _, at, credit in entries],
            }
        )
    snapshot = take_snapshot(parameters, state_with(records, batches), grants, epoch)
    first, last = window(parameters, epoch)
    return {
        "network": name,
        "epoch": epoch,
        "window": [first, last],
        "bond_min_wei": parameters.bond_min_wei,
        "genesis_root": ROOT,
        "miners": miners,
        "rows": [[row.miner, row.bls_key, row.lo, row.hi, row.weight, row.grant] for row in snapshot.rows],
        "total_weight": snapshot.total_weight,
        "root": snapshot_root(ROOT, snapshot),
    }


def certificates() -> dict[str, Any]:
    miner = MINERS[0]
    credited = [([3, 1, 4, 1, 5], 14), ([9, 2, 6, 5, 3, 5], 20), ([8, 9, 7], 8)]
    batches = [unit_batch(miner, fuels, job=job, genesis=ROOT) for job, (fuels, _) in enumerate(credited)]
    view = state_with(
        [MinerRecord(miner, SECRETS[0].public_key, 0)],
        {miner: [(batch, 0, credit) for batch, (_, credit) in zip(batches, credited, strict=True)]},
    )
    rows = []
    for lo, hi, earned, grant in ((0, 42, 42, 0), (14, 42, 28, 5), (0, 34, 10, 3), (0, 42, 0, 4)):
        row = SnapshotRow(miner, SECRETS[0].public_key, lo, hi, earned + grant, grant)
        named: list[list[int] | None] = []
        for x in range(row.weight):
            found = named_receipt(view, row, x)
            if found is None:
                named.append(None)
                continue
            batch = next(batch for batch in batches if batch.commitment == found[0])
            offset = found[1].weight_offset
            named.append([batch.commitment.job, offset, batch.proof_at_weight(offset).receipt.index])
        rows.append({"lo": lo, "hi": hi, "weight": row.weight, "grant": grant, "named": named})
    encodings = [
        {
            "job": job,
            "offset": offset,
            "certificate": encode_certificate(certificate),
            "hash": certificate_hash(certificate),
        }
        for job, batch in enumerate(batches)
        for offset in (0, batch.commitment.weight - 1)
        for certificate in [certificate_at(batch, offset)]
    ]
    return {
        "about": "Which receipt a draw names (protocol 4.5): per x null below the grant, or job, weight"
        " offset, index.",
        "batches": [
            {"fuels": fuels, "credit": credit, "root": batch.commitment.root}
            for batch, (fuels, credit) in zip(batches, credited, strict=True)
        ],
        "rows": rows,
        "empty": {"certificate": encode_certificate(None), "hash": certificate_hash(None)},
        "encodings": encodings,
    }


def rewards() -> dict[str, Any]:
    rows, chances = [], []
    for name, parameters in NETWORKS.items():
        for n in range(8):
            price, pool, vault, fees = (
                number(f"{what} {n}", 10 ** (4 * n + 2)) for what in ("price", "pool", "vault", "fees")
            )
            fee = protocol_fee(parameters, price)
            rows.append(
                {
                    "network": name,
                    "price_wei": price,
                    "fee_wei": fee,
                    "burned_wei": split_fee(fee).burned,
                    "to_pool_wei": split_fee(fee).pool,
                    "pool_wei": pool,
                    "block_reward_wei": block_reward(parameters, pool),
                    "vault_wei": vault,
                    "fees_of_last_epoch_wei": fees,
                    "subsidy_wei": subsidy(vault, fees),
                }
            )
            certificates, run = 1 + number(f"certificates {n}", 400), 1 + number(f"run {n}", 10 ** (n % 5))
            chances.append(
                {
                    "network": name,
                    "certificates_per_epoch": certificates,
                    "mean_run_milliseconds": run,
                    "chance": check_chance(
                        parameters, certificates_per_epoch=certificates, mean_run_milliseconds=run
                    ),
                }
            )
    return {
        "about": "Fees and rewards of protocol 5.4 and 7; the chance of a check (4.5), of 2^32.",
        "rewards": rows,
        "chances": chances,
    }
