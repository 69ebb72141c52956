"""ProgramRegistry: whose a program is, and what it brings."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from noria.execution.system_contracts import PROGRAM_REGISTRY
from noria.market import contracts as calls
from noria.market.contracts import METADATA_BYTES_MAX, WEI_MAX
from noria.primitives.types import Hash32
from tests.contracts.market import DEVELOPER, PINNED, PROGRAM, STRANGER, Market
from tests.contracts.network import Reverted, address


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    market = Market.start(tmp_path / "engine")
    yield market
    market.network.engine.close()


def program(market: Market, program_id: bytes = PROGRAM) -> tuple[str, int]:
    found: tuple[str, int] = market.network.ask(
        PROGRAM_REGISTRY, "program(bytes32)", "(address,uint256)", program_id
    )
    return found


def test_a_program_is_published_once(market: Market) -> None:
    data = calls.publish_call(PROGRAM, 12, b"x" * METADATA_BYTES_MAX)
    events = market.send(DEVELOPER, PROGRAM_REGISTRY, data)
    assert events == [calls.Published(PROGRAM, address(DEVELOPER), 12, b"x" * METADATA_BYTES_MAX)]
    assert program(market) == ("0x" + address(DEVELOPER).hex(), 12)
    for sender in (DEVELOPER, STRANGER):
        with pytest.raises(Reverted, match="published already, or pinned"):
            market.publish(13, sender=sender)
    assert program(market, b"\x01" * 32) == ("0x" + "00" * 20, 0)


def test_a_developer_without_royalty_is_still_the_developer(market: Market) -> None:
    market.publish(0)
    with pytest.raises(Reverted, match="published already, or pinned"):
        market.publish(13, sender=STRANGER)


def test_only_the_developer_changes_the_royalty(market: Market) -> None:
    market.publish(12)
    for sender, program_id in ((STRANGER, PROGRAM), (DEVELOPER, PINNED), (STRANGER, b"\x01" * 32)):
        with pytest.raises(Reverted, match="only the developer may"):
            market.send(sender, PROGRAM_REGISTRY, calls.set_royalty_call(program_id, 1))
    events = market.send(DEVELOPER, PROGRAM_REGISTRY, calls.set_royalty_call(PROGRAM, WEI_MAX))
    assert events == [calls.RoyaltyChanged(Hash32(PROGRAM), WEI_MAX)]
    assert program(market)[1] == WEI_MAX


def test_a_pinned_program_is_nobodys(market: Market) -> None:
    assert program(market, PINNED) == ("0x" + PROGRAM_REGISTRY.hex(), 0)
    with pytest.raises(Reverted, match="published already, or pinned"):
        market.publish(1, PINNED)


def test_a_royalty_has_96_bits(market: Market) -> None:
    with pytest.raises(Reverted, match="a royalty has 96 bits"):
        market.publish(WEI_MAX + 1)
    market.publish(1)
    with pytest.raises(Reverted, match="a royalty has 96 bits"):
        market.send(DEVELOPER, PROGRAM_REGISTRY, calls.set_royalty_call(PROGRAM, WEI_MAX + 1))


def test_metadata_is_bounded(market: Market) -> None:
    with pytest.raises(Reverted):
        market.send(
            DEVELOPER, PROGRAM_REGISTRY, calls.publish_call(PROGRAM, 1, b"x" * (METADATA_BYTES_MAX + 1))
        )
