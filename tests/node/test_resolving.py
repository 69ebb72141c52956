"""Names of machines in bootstrap addresses."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from noria.node.errors import InvalidConfiguration
from noria.node.resolving import ADDRESSES_MAX, resolved

PLAIN = "/ip4/192.0.2.1/tcp/30400/p2p/12D3KooW"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[Any, str]]]:
    """What names stand for, without asking anybody."""
    known: dict[str, list[tuple[Any, str]]] = {}

    async def lookup(self: Any, host: str, port: None, *, family: int = 0, type: int = 0) -> list[Any]:
        found = [(kind, ip) for kind, ip in known.get(host, []) if family in (0, kind)]
        if not found:
            raise socket.gaierror(-2, "Name or service not known")
        return [(kind, type, 6, "", (ip, 0)) for kind, ip in found for _ in range(2)]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", lookup)
    return known


async def test_names_become_addresses_and_addresses_stay(names: dict[str, list[tuple[Any, str]]]) -> None:
    names["a.example"] = [(socket.AF_INET, "192.0.2.7"), (socket.AF_INET6, "2001:db8::7%eth0")]
    assert await resolved([PLAIN, "/dns/a.example/tcp/4/p2p/12D3"]) == (
        PLAIN,
        "/ip4/192.0.2.7/tcp/4/p2p/12D3",
        "/ip6/2001:db8::7/tcp/4/p2p/12D3",
    )
    assert await resolved(["/dns4/a.example/tcp/4"]) == ("/ip4/192.0.2.7/tcp/4",)
    assert await resolved(["/dns6/a.example/tcp/4"]) == ("/ip6/2001:db8::7/tcp/4",)
    assert await resolved([]) == ()


async def test_so_many_addresses_of_a_name_are_taken(names: dict[str, list[tuple[Any, str]]]) -> None:
    names["many.example"] = [(socket.AF_INET, f"192.0.2.{number}") for number in range(20)]
    assert len(await resolved(["/dns/many.example/tcp/4"])) == ADDRESSES_MAX


async def test_an_unknown_name_is_passed_over_or_an_error_of_one_line(
    names: dict[str, list[tuple[Any, str]]],
) -> None:
    assert await resolved(["/dns4/gone.example/tcp/4", PLAIN]) == (PLAIN,)
    with pytest.raises(InvalidConfiguration, match=r"bootstrap: .*gone.* cannot be looked up") as raised:
        await resolved(["/dns4/gone.example/tcp/4"])
    assert "\n" not in str(raised.value)
