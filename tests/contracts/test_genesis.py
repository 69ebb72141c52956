"""Genesis storage is what the contracts would have written, and their code what deploying leaves."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from vyper.compiler import compile_from_file_input
from vyper.compiler.input_bundle import FileInput

from noria._core import Engine
from noria.execution.genesis import GenesisMiner, GenesisWork
from noria.execution.parameters import ChainParameters
from noria.execution.spec import ChainSpec, SpecError
from noria.execution.system_contracts import (
    COURT,
    MINER_REGISTRY,
    OWN_CONTRACTS,
    PROGRAM_REGISTRY,
    REWARD_POOL,
    WORK_LEDGER,
    artifact,
    genesis_contracts,
)
from noria.primitives.types import Hash32, Wei
from tests.contracts.conftest import Start
from tests.contracts.network import (
    GENESIS_SECONDS,
    SMALL,
    Network,
    Reverted,
    address,
    base_spec,
    bls_key,
    genesis_miner,
    network_spec,
    possession,
)
from tests.contracts.real_work import origin, real_batch

REPOSITORY = Path(__file__).resolve().parents[2]
FEE_PER_FUEL = SMALL.floor_min_wei * SMALL.fee_basis_points // 10_000


def storage_root(network: Network, contract: bytes) -> bytes:
    return network.engine.account(network.engine.head.hash, contract).storage_root


def test_genesis_miners_are_stored_as_if_they_had_registered(start: Start) -> None:
    terms: list[dict[str, Any]] = [
        {"bond": Wei(1_000), "capacity": 100, "ask_price": 0, "peer_id": b"p"},
        {"bond": Wei(2_345), "capacity": 234, "ask_price": 2**200, "peer_id": b"q" * 32},
        {"bond": Wei(10**20), "capacity": 0, "ask_price": 5, "peer_id": b"r" * 33},
        {"bond": Wei(5_000), "capacity": 77, "ask_price": 5, "peer_id": b"s" * 64},
        {"bond": Wei(5_000), "capacity": 1, "ask_price": 5, "peer_id": b"t" * 38},
    ]
    miners = tuple(genesis_miner(number, **term) for number, term in enumerate(terms))
    listed = start(dataclasses.replace(base_spec(), miners=miners))
    registered = start(base_spec())
    registered.extend(slot=1)
    for number, term in enumerate(terms):
        registered.register(number, **term)
    assert registered.epoch == 0
    # Who is listed can be drawn at once; those who register can from the next epoch on.
    assert storage_root(listed, MINER_REGISTRY) != storage_root(registered, MINER_REGISTRY)
    listed.extend(slot=1)
    for chain in (listed, registered):
        chain.grow_to_epoch(1)
        for number, term in enumerate(terms):
            chain.send(
                number, MINER_REGISTRY, "update(bytes,uint256,uint256)",
                term["peer_id"], 0 if term["capacity"] else 1, term["ask_price"],
            )  # fmt: skip
    assert storage_root(listed, MINER_REGISTRY) == storage_root(registered, MINER_REGISTRY)
    assert listed.balance(MINER_REGISTRY) == registered.balance(MINER_REGISTRY)
    # What is compared says something: one wei more is another root.
    more = (*miners[:-1], dataclasses.replace(miners[-1], bond=Wei(5_001)))
    other = start(dataclasses.replace(base_spec(), miners=more))
    assert storage_root(other, MINER_REGISTRY) != storage_root(listed, MINER_REGISTRY)


def test_genesis_work_is_stored_as_if_it_had_been_credited(start: Start) -> None:
    work = [
        real_batch(0),
        real_batch(1),
        real_batch(0, first_index=3, units=2),
        real_batch(0, job=2, units=1),
    ]
    listed = start(network_spec(work=work))
    credited = start(network_spec())
    credited.extend()
    for batch in work:
        credited.credit(
            0 if batch.miner == address(0) else 1,
            batch.root,
            weight=batch.weight,
            price=0,
            fee=batch.weight * FEE_PER_FUEL,
        )
    assert credited.epoch == 0
    # Two things differ: what genesis work commits to is here, and it leaves no price behind.
    expected = dict(stored(listed, WORK_LEDGER))
    slots = artifact("WorkLedger").storage
    found = dict(stored(credited, WORK_LEDGER))
    differing = {slot for slot in expected.keys() | found.keys() if expected.get(slot) != found.get(slot)}
    commitments = {slot for slot in differing if slot in expected}
    assert not commitments & found.keys()
    assert len(commitments) == 3 * len(work)
    assert slots["_sum_count"] in differing - commitments
    assert len(differing - commitments) == 2


def stored(network: Network, contract: bytes) -> list[tuple[int, int]]:
    """Words that are not zero, of every slot that the chain has touched."""
    touched: set[int] = set()
    document = json.loads(network.spec.engine_json())["alloc"]["0x" + contract.hex()]
    touched |= {int(slot, 16) for slot in document["storage"]}
    engine = network.engine
    for number in range(1, engine.head.number + 1):
        block = engine.canonical_hash(number)
        assert block is not None
        parent = engine.canonical_hash(number - 1)
        assert parent is not None
        for index in range(len(engine.transaction_hashes(block) or [])):
            fields = json.loads(engine.transaction_json(block, index) or b"{}")
            header = engine.header(block)
            assert header is not None
            request = {
                "from": fields["from"],
                "to": fields["to"],
                "data": fields["input"],
                "value": fields["value"],
            }
            listed = json.loads(
                engine.access_list_json(parent, json.dumps(request).encode(), gas_cap=30_000_000)
            )
            for entry in listed["accessList"]:
                if entry["address"].lower() == "0x" + contract.hex():
                    touched |= {int(slot, 16) for slot in entry["storageKeys"]}
    words = []
    for slot in sorted(touched):
        word = engine.storage(engine.head.hash, contract, slot.to_bytes(32, "big"))
        if any(word):
            words.append((slot, int.from_bytes(word, "big")))
    return words


def test_genesis_work_can_be_found_at_once(start: Start) -> None:
    work = [real_batch(0), real_batch(0, first_index=3, units=2)]
    network = start(network_spec(work=work))
    state = network.state()
    assert state.credit_windows([address(0), address(1)], 0, 0) == [
        (0, work[0].weight + work[1].weight),
        (0, 0),
    ]
    batch = state.batch(address(0), work[1].root)
    assert batch is not None
    assert batch.genesis
    assert (batch.miner, batch.first_index, batch.count) == (address(0), 3, 2)
    located = state.locate(address(0), work[0].weight)
    assert located is not None
    assert located.batch_root == work[1].root
    assert work[0].weight > 100


def test_a_vault_is_stored_and_there(start: Start) -> None:
    network = start(vault=12_345)
    assert network.ask(REWARD_POOL, "vault()", "uint256") == network.balance(REWARD_POOL) == 12_345
    assert network.pool() == 0


def test_the_code_at_genesis_is_what_a_deployment_leaves(tmp_path: Path) -> None:
    parameters = SMALL
    values = {
        "Consensus": (
            GENESIS_SECONDS,
            parameters.slot_seconds,
            parameters.epoch_slots,
            parameters.leak_epochs,
        ),
        "MinerRegistry": (
            GENESIS_SECONDS,
            parameters.slot_seconds * parameters.epoch_slots,
            parameters.unbonding_epochs,
            parameters.jail_epochs,
            parameters.bond_min_wei,
            parameters.bond_per_capacity_wei,
            parameters.miners_max,
        ),
        "WorkLedger": (
            GENESIS_SECONDS,
            parameters.slot_seconds * parameters.epoch_slots,
            parameters.window_epochs,
            parameters.fee_basis_points,
            parameters.floor_min_wei,
        ),
        "JobMarket": (parameters.close_blocks,),
        "Settlement": (parameters.challenge_blocks, parameters.fee_basis_points),
        "ProgramRegistry": (),
        "RewardPool": (parameters.pool_rate,),
    }
    spec = base_spec()
    engine = Engine(str(tmp_path / "engine"), spec.engine_json(), sync=False)
    try:
        for contract in genesis_contracts(parameters, GENESIS_SECONDS)[: len(OWN_CONTRACTS)]:
            path = REPOSITORY / "contracts" / f"{contract.name}.vy"
            source = FileInput(0, Path(path.name), path, path.read_text())
            creation = compile_from_file_input(source, output_formats=["bytecode"])["bytecode"]
            arguments = values[contract.name]
            data = creation + encode(["uint256"] * len(arguments), arguments).hex()
            request = {"from": "0x" + "11" * 20, "data": data}
            result = engine.call(engine.genesis_hash, json.dumps(request).encode(), gas_cap=30_000_000)
            assert result.status == "success"
            assert result.output == contract.code == engine.code(engine.genesis_hash, contract.address)
    finally:
        engine.close()


def test_the_reserved_contract_has_no_code_yet() -> None:
    assert "0x" + COURT.hex() not in json.loads(base_spec().engine_json())["alloc"]


def test_pinned_programs_belong_to_the_registry_itself(start: Start) -> None:
    pinned = (Hash32(b"\x01" * 32), Hash32(b"\x02" * 32))
    network = start(dataclasses.replace(network_spec(), programs=pinned))
    network.extend()
    for program in pinned:
        result = network.call(PROGRAM_REGISTRY, "program(bytes32)", program)
        assert result.output == PROGRAM_REGISTRY.rjust(32, b"\0") + bytes(32)
        with pytest.raises(Reverted, match="published already, or pinned"):
            network.send(0, PROGRAM_REGISTRY, "publish(bytes32,uint256,bytes)", program, 1, b"")
        with pytest.raises(Reverted, match="only the developer may"):
            network.send(0, PROGRAM_REGISTRY, "set_royalty(bytes32,uint256)", program, 1)
    assert network.call(PROGRAM_REGISTRY, "program(bytes32)", bytes(32)).output == bytes(64)


# ---------------------------------------------------------------- the file


def test_a_network_goes_to_a_file_and_back() -> None:
    spec = dataclasses.replace(
        network_spec(work=[real_batch(0), real_batch(1)], vault=10**30, grant=5),
        programs=(Hash32(b"\x01" * 32),),
    )
    again = ChainSpec.from_json(spec.to_json())
    assert again == spec
    assert again.engine_json() == spec.engine_json()
    assert again.grants == {address(number): 5 for number in range(4)}
    assert again.supply == spec.supply == 10 * 10_000 * 10**18 + 4_000 + 10**30


def document() -> dict[str, Any]:
    spec = dataclasses.replace(
        network_spec(work=[real_batch(0), real_batch(0, first_index=3, units=2)]),
        programs=(Hash32(b"\x01" * 32),),
    )
    content: dict[str, Any] = json.loads(spec.to_json())
    return content


def edit(*path: Any, to: Any) -> Any:
    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = to(content[path[-1]]) if callable(to) else to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit("parameters", "epoch_slots", to=7), "parameters.epoch_slots: 7 is not within 8 and"),
        (edit("parameters", "epoch_slots", to="8"), "parameters.epoch_slots: '8' is no integer"),
        (edit("parameters", "leak_epochs", to=5), "parameters.leak_epochs: 5 is above window_epochs 4"),
        (edit("parameters", "bond_min_wei", to="5"), "parameters.bond_min_wei: '5' needs one of the units"),
        (lambda c: c["parameters"].pop("pool_rate"), "parameters: missing field 'pool_rate'"),
        (edit("parameters", to=lambda p: p | {"speed": 1}), "parameters: unknown field 'speed'"),
        (edit("programs", to=["0x00"]), "programs: "),
        (edit("programs", to=["0x" + "01" * 32] * 2), "programs: an id stands twice"),
        (edit("reward_vault", to="5"), "reward_vault: '5' needs one of the units"),
        (edit("reward_vault", to=hex(2**256 - 1)), "all balances, bonds and the vault together exceed"),
        (edit("miners", 0, "bond", to="999 wei"), r"bond: 999 wei is below the least bond, 1000 wei"),
        (
            edit("miners", 0, "capacity", to=101),
            "capacity: 101 is not within 0 and 100: the bond covers no more",
        ),
        (edit("miners", 0, "capacity", to=-1), "capacity: -1 is not within"),
        (edit("miners", 0, "peer_id", to="0x"), "peer_id: has 0 bytes"),
        (edit("miners", 0, "grant", to=2**64), "grant: 18446744073709551616 is not within"),
        (lambda c: c["miners"][0].update(colour="red"), r"miners\[0\]: .*unknown field `colour`"),
        (lambda c: c["miners"][1].pop("bls_key"), r"miners\[1\]: .*missing required field `bls_key`"),
        (lambda c: c["miners"][1].update(c["miners"][0]), "miners: 0x.* stands twice"),
        (
            lambda c: c["miners"][1].update(bls_key=c["miners"][0]["bls_key"]),
            "miners: bls_key: 0x.* stands twice",
        ),
        (
            lambda c: c["miners"][1].update(proof_of_possession=c["miners"][0]["proof_of_possession"]),
            "proof_of_possession: is not its BLS key's signature",
        ),
        (
            edit("chain_id", to=5),
            "proof_of_possession: is not its BLS key's signature for this name, chain id",
        ),
        (edit("name", to="another"), "proof_of_possession: is not"),
        (edit("timestamp", to=1_700_000_001), "proof_of_possession: is not"),
        (edit("parameters", "miners_max", to=3), "miners: 4, at most 3 are allowed"),
        (edit("genesis_work", 0, "miner", to="0x" + "99" * 20), "miner: 0x9+ is not among the miners"),
        (edit("genesis_work", 0, "weight", to=0), "weight: 0 is not within 1 and"),
        (edit("genesis_work", 0, "weight", to=lambda w: w + 1), "a batch weighs no more than its fuel"),
        (edit("genesis_work", 0, "count", to=0), "count: 0 is not within 1 and 4096"),
        (edit("genesis_work", 0, "count", to=4097), "count: 4097 is not within 1 and 4096"),
        (edit("genesis_work", 0, "count", to=2), r"first_index: is 3, but the next receipt .* is 2"),
        (edit("genesis_work", 0, "first_index", to=1), r"first_index: is 1, but the next receipt .* is 0"),
        (edit("genesis_work", 0, "k", to=2**32), "k: 4294967296 is not within"),
        (edit("genesis_work", 0, "job", to=-1), "job: -1 is not within"),
        (edit("genesis_work", 0, "fuel", to=2**64), "fuel: 18446744073709551616 is not within"),
        (lambda c: c["genesis_work"][1].update(root=c["genesis_work"][0]["root"]), "root: 0x.* stands twice"),
        (edit("genesis_work", 0, "root", to="0x00"), r"genesis_work\[0\].root: "),
    ],
)
def test_a_network_that_cannot_be_is_refused(change: Any, message: str) -> None:
    content = document()
    change(content)
    with pytest.raises(SpecError, match=message) as raised:
        ChainSpec.from_json(json.dumps(content).encode())
    assert "\n" not in str(raised.value)


def test_equal_specifications_make_equal_genesis_blocks(start: Start) -> None:
    one, two = start(vault=7), start(vault=7)
    other = start(vault=8)
    assert one.engine.genesis_hash == two.engine.genesis_hash != other.engine.genesis_hash


def test_a_chain_may_have_no_miners(start: Start) -> None:
    network = start(miners=0)
    network.extend()
    assert dict(network.state().miners) == {}
    network.register(3)
    assert list(network.state().miners) == [address(3)]


def test_types_are_what_a_file_makes() -> None:
    spec = ChainSpec.from_json(network_spec().to_json())
    assert isinstance(spec.parameters, ChainParameters)
    assert all(isinstance(miner, GenesisMiner) for miner in spec.miners)
    assert GenesisWork.__slots__[0] == "miner"
    proof = possession(origin(), address(0), 0)
    assert spec.miners[0].proof_of_possession == proof
    assert spec.miners[0].bls_key == bls_key(0).public_key
