"""Bootstrap addresses with names of machines, as addresses that can be dialled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import structlog

from noria.node.errors import InvalidConfiguration

SECONDS: Final = 10.0
"""For looking up one name."""
ADDRESSES_MAX: Final = 4
"""Addresses that are taken of one name."""
_FAMILIES: Final = {"dns": socket.AF_UNSPEC, "dns4": socket.AF_INET, "dns6": socket.AF_INET6}

_log = structlog.get_logger(__name__)


async def resolved(addresses: Sequence[str]) -> tuple[str, ...]:
    """Look up the names in addresses like ``/dns4/example.org/tcp/30400``; others stay as they are.

    A name that is not found is passed over, with a line in the log, as long as any address is left.

    Raises
    ------
    InvalidConfiguration
        Where there were addresses and none is left.
    """
    found: list[str] = []
    reason = ""
    for address in addresses:
        _, kind, host, rest = address.split("/", 3)
        if kind not in _FAMILIES:
            found.append(address)
            continue
        try:
            async with asyncio.timeout(SECONDS):
                answers = await asyncio.get_running_loop().getaddrinfo(
                    host, None, family=_FAMILIES[kind], type=socket.SOCK_STREAM
                )
        except (OSError, UnicodeError, TimeoutError) as error:
            reason = str(error) or f"no answer within {SECONDS:g} s"
            _log.warning("bootstrap_name_unknown", address=address, reason=reason)
            continue
        ips = dict.fromkeys((family, str(where[0])) for family, _, _, _, where in answers)
        for family, ip in list(ips)[:ADDRESSES_MAX]:
            found.append(f"/{'ip4' if family == socket.AF_INET else 'ip6'}/{ip.partition('%')[0]}/{rest}")
    if addresses and not found:
        raise InvalidConfiguration(
            f"bootstrap: {addresses[0]} cannot be looked up ({reason}): check the name and this machine's"
            " network, or give an address like /ip4/192.0.2.1/tcp/30400"
        )
    return tuple(found)
