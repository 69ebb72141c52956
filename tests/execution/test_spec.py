"""Chain specification: what a good file becomes, and the named refusal of every bad one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noria.execution import spec as module
from noria.execution.parameters import DEVNET
from noria.execution.spec import ChainSpec, GenesisAccount, SpecError, dev_spec
from noria.execution.system_contracts import genesis_contracts
from noria.primitives.types import Address, Hash32, Wei

ALICE = "0x" + "aa" * 20
BOB = "0x" + "bb" * 20
Document = dict[str, Any]


def document() -> Document:
    return {
        "name": "testnet",
        "chain_id": 7,
        "hardforks": {"cancun": 0, "prague": 10, "osaka": 20},
        "timestamp": 5,
        "gas_limit": 36_000_000,
        "base_fee_per_gas": 1_000_000_000,
        "alloc": {
            ALICE: {"balance": "1.5 NOR"},
            BOB: {
                "balance": "0x0",
                "nonce": "0x1",
                "code": "0x6001",
                "storage": {"0x" + "00" * 32: "0x" + "00" * 31 + "07"},
            },
        },
    }


def parse(content: Document) -> ChainSpec:
    return ChainSpec.from_json(json.dumps(content).encode())


def test_a_file_becomes_a_specification(tmp_path: Path) -> None:
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(document()))
    spec = ChainSpec.load(path)
    assert (spec.name, spec.chain_id, spec.timestamp) == ("testnet", 7, 5)
    assert spec.hardforks == (("cancun", 0), ("prague", 10), ("osaka", 20))
    assert spec.alloc[Address(b"\xaa" * 20)] == GenesisAccount(balance=Wei(1_500_000_000_000_000_000))
    bob = spec.alloc[Address(b"\xbb" * 20)]
    assert (bob.nonce, bob.code) == (1, b"\x60\x01")
    assert bob.storage == {Hash32(bytes(32)): Hash32(bytes(31) + b"\x07")}


def test_optional_fields_have_zero_defaults() -> None:
    spec = parse(document())
    assert (spec.extra_data, spec.prev_randao, spec.fee_recipient) == (b"", bytes(32), bytes(20))


def _set(key: str, value: object) -> Callable[[Document], None]:
    return lambda content: content.__setitem__(key, value)


def _account(field: str, value: object) -> Callable[[Document], None]:
    return lambda content: content["alloc"][BOB].__setitem__(field, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("name", ""), "name: '' is not 1 to 64 lower-case letters"),
        (_set("name", "Über"), r"name: '\\xdcber' is not"),
        (_set("name", "a" * 65), "name: "),
        (_set("name", 7), r"Expected `str`, got `int` - at `\$.name`"),
        (_set("chain_id", 0), "chain_id: 0 is not within 1 and"),
        (_set("chain_id", 2**63), "chain_id: 9223372036854775808 is not within"),
        (_set("chain_id", "7"), r"Expected `int`, got `str` - at `\$.chain_id`"),
        (_set("chain_id", 7.0), r"Expected `int`, got `float` - at `\$.chain_id`"),
        (_set("chain_id", True), r"Expected `int`, got `bool` - at `\$.chain_id`"),
        (_set("timestamp", -1), "timestamp: -1 is not within 0 and .* seconds"),
        (_set("timestamp", 1_700_000_000_000), "timestamp: 1700000000000 is not within .* seconds"),
        (_set("gas_limit", 999_999), "gas_limit: 999999 is not within 1000000 and"),
        (_set("gas_limit", 2**63), "gas_limit: "),
        (_set("base_fee_per_gas", 0), "base_fee_per_gas: 0 is not within 1 and .*could never rise"),
        (_set("base_fee_per_gas", 2**64), "base_fee_per_gas: "),
        (_set("extra_data", "0x" + "00" * 33), "extra_data: has 33 bytes, 0 to 32 are allowed"),
        (_set("extra_data", "text"), "extra_data: .*0x"),
        (_set("prev_randao", "0x00"), "prev_randao: "),
        (_set("fee_recipient", "0x00"), "fee_recipient: "),
        (_set("hardforks", {}), "hardforks: empty: name at least one"),
        (_set("hardforks", {"shanghai": 0}), "hardforks: 'shanghai' is not among cancun, prague, osaka"),
        (_set("hardforks", {"osaka": 0, "prague": 0}), "hardforks: prague must stand before osaka"),
        (_set("hardforks", {"cancun": 5, "osaka": 4}), "hardforks: osaka at 4 is earlier than cancun at 5"),
        (_set("hardforks", {"osaka": 6}), "hardforks: osaka at 6 comes after genesis at 5"),
        (_set("hardforks", {"osaka": -1}), "hardforks.osaka: -1 is not within"),
        (_set("colour", "red"), "unknown field `colour`"),
        (lambda content: content.pop("gas_limit"), "missing required field `gas_limit`"),
        (_set("alloc", {"0x00": {}}), "alloc: .*length 2, want 40"),
        (_set("alloc", {"0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266": {}}), "alloc: .*wrong capitals"),
        (_set("alloc", {ALICE: {}, ALICE.upper().replace("X", "x"): {}}), f"alloc.{ALICE}: stands twice"),
        (_set("alloc", {ALICE: 7}), f"alloc.{ALICE}: Expected `object`, got `int`"),
        (_account("balance", "-1"), f"alloc.{BOB}.balance: '-1' is not an amount"),
        (_account("balance", "5"), f"alloc.{BOB}.balance: '5' needs one of the units"),
        (_account("balance", hex(2**256)), f"alloc.{BOB}.balance: hex number > 256 bits"),
        (_account("balance", hex(2**256 - 1)), "alloc: all balances, bonds and the vault together exceed"),
        (_account("nonce", hex(2**64 - 1)), f"alloc.{BOB}.nonce: 18446744073709551615 is not within"),
        (_account("nonce", "0x01"), f"alloc.{BOB}.nonce: hex number with leading zero digits"),
        (_account("code", "0x0"), f"alloc.{BOB}.code: hex string of odd length"),
        (_account("code", "0x" + "00" * 24_577), f"alloc.{BOB}.code: has 24577 bytes"),
        (_account("storage", {"0x00": "0x00"}), f"alloc.{BOB}.storage: .*want 64"),
        (_account("storage", {"0x" + "00" * 32: "0x01"}), f"alloc.{BOB}.storage.0x0+: .*want 64"),
        (
            _account("storage", {"0x" + "aa" * 32: "0x" + "00" * 32, "0x" + "AA" * 32: "0x" + "00" * 32}),
            f"alloc.{BOB}.storage: 0x(aa)+ stands twice",
        ),
        (_account("colour", "red"), f"alloc.{BOB}: .*unknown field `colour`"),
    ],
)
def test_every_bad_value_is_named_on_one_line(change: Callable[[Document], object], message: str) -> None:
    content = document()
    change(content)
    with pytest.raises(SpecError, match=message) as raised:
        parse(content)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("contract", genesis_contracts(DEVNET, 0), ids=lambda contract: contract.name)
def test_the_protocols_addresses_cannot_be_given_away(contract: Any) -> None:
    content = document()
    content["alloc"]["0x" + contract.address.hex()] = {"balance": "1 wei"}
    with pytest.raises(SpecError, match="belongs to the protocol: leave it out"):
        parse(content)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b"\xff", r"not UTF-8 text \(byte 0\)"),
        (b'{"chain_id": NaN}', "NaN is not a number"),
        (b'{"chain_id": -Infinity}', "-Infinity is not a number"),
        (b'{"chain_id": 1' + b"0" * 5000 + b"}", "not JSON"),
        (b"[" * 1_000_000, "nested more than 8 deep"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "nested more than 8 deep"),
        (b'{"[[[[[[[[[[": "\\"[[[[[[[[[["}', "Object (missing required|contains unknown) field"),
        (b'{"name": "a", "name": "b"}', "'name' stands twice in the same object"),
        (b" " * (16 * 1024 * 1024 + 1), "larger than 16777216 bytes"),
    ],
)
def test_what_is_no_specification_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ChainSpec.from_json(data)


def test_a_number_as_a_repeated_account_is_found_before_it_is_lost() -> None:
    text = json.dumps(document()).replace(BOB, ALICE)
    with pytest.raises(SpecError, match=f"'{ALICE}' stands twice in the same object"):
        ChainSpec.from_json(text.encode())


def test_too_many_accounts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_GENESIS_ACCOUNTS", 1)
    with pytest.raises(SpecError, match="alloc: 2 accounts, at most 1 are allowed"):
        parse(document())


def test_load_names_the_file(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    with pytest.raises(SpecError, match=r"missing.json: cannot be read \(No such file or directory\)"):
        ChainSpec.load(missing)
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(SpecError, match=r"broken.json: not JSON"):
        ChainSpec.load(broken)
    with pytest.raises(SpecError, match=r"cannot be read \(Is a directory\)"):
        ChainSpec.load(tmp_path)


@given(data=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_random_input_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(SpecError):
        ChainSpec.from_json(data)


words = st.binary(min_size=32, max_size=32).map(Hash32)
accounts = st.builds(
    GenesisAccount,
    balance=st.integers(0, 2**240).map(Wei),
    nonce=st.integers(0, 2**64 - 2),
    code=st.binary(max_size=40),
    storage=st.dictionaries(words, words, max_size=3),
)
specs = st.builds(
    ChainSpec,
    name=st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True),
    chain_id=st.integers(1, 2**63 - 37),
    hardforks=st.lists(st.integers(100, 2**40), min_size=2, max_size=2).map(
        lambda times: (("cancun", 0), ("prague", min(times)), ("osaka", max(times)))
    ),
    timestamp=st.integers(0, 2**40),
    gas_limit=st.integers(1_000_000, 2**63 - 1),
    base_fee_per_gas=st.integers(1, 2**64 - 1),
    extra_data=st.binary(max_size=32),
    prev_randao=words,
    fee_recipient=st.binary(min_size=20, max_size=20).map(Address),
    alloc=st.dictionaries(st.binary(min_size=20, max_size=20).map(Address), accounts, max_size=4),
)


@given(spec=specs)
def test_to_json_and_back_is_the_same_specification(spec: ChainSpec) -> None:
    again = ChainSpec.from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.engine_json() == spec.engine_json()


def test_engine_json_adds_the_system_contracts_and_keeps_the_rest() -> None:
    spec = parse(document())
    engine = json.loads(spec.engine_json())
    assert engine["hardforks"] == [["cancun", 0], ["prague", 10], ["osaka", 20]]
    assert engine["noria_precompiles"] is True
    assert engine["alloc"][ALICE]["balance"] == hex(15 * 10**17)
    for contract in genesis_contracts(spec.parameters, spec.timestamp):
        account = engine["alloc"]["0x" + contract.address.hex()]
        assert account["code"] == "0x" + contract.code.hex()
        assert (account["nonce"], account["balance"]) == ("0x1", "0x0")
    assert len(engine["alloc"]) == 2 + len(genesis_contracts(DEVNET, 0))


def test_alloc_cannot_be_changed_afterwards() -> None:
    accounts = {Address(b"\x01" * 20): GenesisAccount()}
    spec = ChainSpec(
        name="x",
        chain_id=1,
        hardforks=(("osaka", 0),),
        timestamp=0,
        gas_limit=10**6,
        base_fee_per_gas=1,
        alloc=accounts,
    )
    accounts.clear()
    assert len(spec.alloc) == 1
    with pytest.raises(TypeError):
        spec.alloc[Address(b"\x02" * 20)] = GenesisAccount()  # type: ignore[index]


def test_dev_spec_funds_its_accounts_under_the_newest_rules() -> None:
    spec = dev_spec([b"\x01" * 20, b"\x02" * 20], 1_700_000_000)
    assert spec.chain_id == 5_132_114
    assert spec.hardforks[-1] == ("osaka", 0)
    assert {account.balance for account in spec.alloc.values()} == {10_000 * 10**18}
    assert spec == dev_spec([b"\x02" * 20, b"\x01" * 20], 1_700_000_000)


def test_dev_spec_refuses_an_address_of_another_length() -> None:
    with pytest.raises(SpecError, match="alloc: has 19 bytes, 20 are allowed"):
        dev_spec([bytes(19)], 0)


def test_the_documented_example_is_a_specification() -> None:
    text = (Path(__file__).parents[2] / "docs" / "chain-specification.md").read_text(encoding="utf-8")
    spec = ChainSpec.from_json(text.split("```json\n", 1)[1].split("```", 1)[0].encode())
    assert spec.name == "example-testnet"
    assert len(spec.alloc) == 2
