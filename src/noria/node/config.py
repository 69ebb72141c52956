"""How a node is set up: a TOML file, environment variables and flags, each value checked where it comes from.

A flag beats ``NORIA_<NAME>`` in the environment, which beats the file, which beats the default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, get_type_hints

from noria.node.errors import InvalidConfiguration
from noria.node.logs import LEVELS

ENVIRONMENT_PREFIX: Final = "NORIA_"
PASSWORD_VARIABLE: Final = f"{ENVIRONMENT_PREFIX}PASSWORD_FILE"
"""Wallets read it too, on machines whose node is no miner's."""
SLIP: Final = 0.75
"""How alike a variable's name and a setting's are if it was meant; those of other commands are less so."""
CONFIG_BYTES_MAX: Final = 1 << 20
PORT_MAX: Final = 65_535
WORKERS_MAX: Final = 1_024
PEERS_MAX: Final = 256
LIST_MAX: Final = 256
JOB_STORAGE_MB_MIN: Final = 64
JOB_STORAGE_MB_MAX: Final = 1 << 24
_MULTIADDRESS: Final = re.compile(
    r"/(?P<kind>ip4|ip6|dns|dns4|dns6)/(?P<host>[^/\s]{1,253})/tcp/(?P<port>\d{1,5})"
    r"(/p2p/[1-9A-HJ-NP-Za-km-z]{1,128})?"
)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """How to run a node.

    Attributes
    ----------
    data_dir
        Where everything of the node lives; made if it is not there.
    spec
        The chain specification. Without it, the one in the folder.
    listen
        Addresses for peers, like ``/ip4/0.0.0.0/tcp/30400``; port 0 lets the system choose.
    external
        Where others can reach this node, if that is not where it listens.
    bootstrap
        Addresses of peers that are dialled again and again.
    mdns
        Whether to look for peers on the local network.
    peers
        Known peers are dialled while fewer than this are connected.
    rpc_host, rpc_port
        Where JSON-RPC, metrics and health are served.
    cors_origins, allowed_hosts
        Of the RPC server.
    workers
        Processes that run units again.
    miner_keystore
        Key file (EIP-2335) of the miner; without it the node follows the chain and makes no blocks.
    miner_address
        The miner's account.
    password_file
        File whose first line opens the key file.
    miner_account_keystore
        Folder with the key file of the miner's account, as ``noria account`` keeps them; `password_file`
        opens it. It signs receipts and what settles them: without it the miner takes no jobs.
    fee_recipient
        Who gets tips and rewards; the miner if left out.
    mine_jobs
        Whether a miner whose account is here takes jobs.
    job_workers
        Processes that run units of jobs; 0 for one per core.
    job_storage_mb
        MiB for what requesters put here.
    programs
        Folder of pinned modules, beside those that come with the package.
    log_level, log_json
        Of the log on standard error.
    """

    data_dir: Path = Path("noria-data")
    spec: Path | None = None
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/30400",)
    external: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    mdns: bool = False
    peers: int = 16
    rpc_host: str = "127.0.0.1"
    rpc_port: int = 8545
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    workers: int = 1
    miner_keystore: Path | None = None
    miner_address: str | None = None
    password_file: Path | None = None
    miner_account_keystore: Path | None = None
    fee_recipient: str | None = None
    mine_jobs: bool = True
    job_workers: int = 0
    job_storage_mb: int = 4_096
    programs: Path | None = None
    log_level: str = "info"
    log_json: bool = False

    def __post_init__(self) -> None:
        """Check what one value alone cannot show.

        Raises
        ------
        InvalidConfiguration
            Where a value is out of its bounds or needs another one.
        """
        _within("rpc_port", self.rpc_port, 0, PORT_MAX)
        _within("workers", self.workers, 1, WORKERS_MAX)
        _within("peers", self.peers, 0, PEERS_MAX)
        _within("job_workers", self.job_workers, 0, WORKERS_MAX)
        _within("job_storage_mb", self.job_storage_mb, JOB_STORAGE_MB_MIN, JOB_STORAGE_MB_MAX)
        if self.log_level not in LEVELS:
            raise InvalidConfiguration(f"log_level: {self.log_level!r} is not one of {', '.join(LEVELS)}")
        if not self.listen:
            raise InvalidConfiguration("listen: is empty; give an address like /ip4/0.0.0.0/tcp/30400")
        for name in ("listen", "external", "bootstrap"):
            for address in getattr(self, name):
                if not _is_multiaddress(address):
                    raise InvalidConfiguration(
                        f"{name}: {address!r:.80} is no address; write it like /ip4/192.0.2.1/tcp/30400"
                    )
                if name != "bootstrap" and address.startswith("/dns"):
                    raise InvalidConfiguration(f"{name}: {address!r:.80} names a machine: write its address")
        for name in ("miner_address", "fee_recipient"):
            _check_address(name, getattr(self, name))
        if self.miner_keystore is not None and self.miner_address is None:
            raise InvalidConfiguration(
                "miner_address: is missing; a miner_keystore needs the account it is for"
            )
        if self.miner_keystore is not None and self.password_file is None:
            raise InvalidConfiguration("password_file: is missing; it opens the miner_keystore")
        for name in ("miner_address", "password_file", "miner_account_keystore", "fee_recipient"):
            if self.miner_keystore is None and getattr(self, name) is not None:
                raise InvalidConfiguration(
                    f"{name}: is of use to a miner alone, and its miner_keystore is missing"
                )

    @property
    def mines(self) -> bool:
        """Whether this node is a miner's."""
        return self.miner_keystore is not None

    @property
    def takes_jobs(self) -> bool:
        """Whether the miner runs units for others."""
        return self.mine_jobs and self.miner_account_keystore is not None


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it comes from: ``"flag"``, a variable's name, a file's name, or ``"default"``."""

    name: str
    value: Any
    origin: str


def load_config(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]
) -> tuple[NodeConfig, list[Setting]]:
    """Join all sources.

    Parameters
    ----------
    file
        TOML with the names of `NodeConfig`; none if left out.
    environment
        ``NORIA_DATA_DIR`` and so on; lists are separated by commas.
    flags
        By name; `None` and empty lists are not given.

    Returns
    -------
    tuple
        The configuration, and every value with its origin.

    Raises
    ------
    InvalidConfiguration
        For the first value that cannot be used; the message names value and origin.
    """
    hints = get_type_hints(NodeConfig)
    found: dict[str, tuple[Any, str]] = {}
    for name, value in _file(file).items():
        if name not in hints:
            raise InvalidConfiguration(f"{file}: there is no setting {name!r}{_similar(name, hints)}")
        found[name] = (value, str(file))
    for name in hints:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if environment.get(variable):
            found[name] = (environment[variable], variable)
    _check_variables(environment, hints)
    for name, value in flags.items():
        if value is not None and value != [] and value != ():
            found[name] = (value, "flag")
    if "miner_keystore" not in found and found.get("password_file", ("", ""))[1] == PASSWORD_VARIABLE:
        del found["password_file"]
    values = {
        name: _convert(name, hints[name], value, origin, file) for name, (value, origin) in found.items()
    }
    try:
        config = NodeConfig(**values)
    except InvalidConfiguration as error:
        name = str(error).partition(":")[0]
        origin = found[name][1] if name in found else ""
        raise InvalidConfiguration(
            f"{origin}: {error}" if origin not in ("", "flag") else str(error)
        ) from None
    settings = [
        Setting(
            field.name,
            getattr(config, field.name),
            found[field.name][1] if field.name in found else "default",
        )
        for field in fields(NodeConfig)
        if field.default is not MISSING
    ]
    return config, settings


def _file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
        if len(data) > CONFIG_BYTES_MAX:
            raise InvalidConfiguration(f"{path}: is longer than {CONFIG_BYTES_MAX} bytes")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise InvalidConfiguration(f"{path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidConfiguration(f"{path}: is no TOML: {error}") from None


def _check_variables(environment: Mapping[str, str], hints: Mapping[str, Any]) -> None:
    """Refuse variables that are settings but for a slip; others may be anybody's, a wallet's for example."""
    for variable, value in environment.items():
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if not value or not variable.startswith(ENVIRONMENT_PREFIX):
            continue
        close = get_close_matches(name, hints, 1, SLIP)
        if close and variable != ENVIRONMENT_PREFIX + close[0].upper():
            raise InvalidConfiguration(
                f"{variable}: there is no setting {name!r}; did you mean"
                f" {ENVIRONMENT_PREFIX}{close[0].upper()}?"
            )


def _similar(name: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(name, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(known)}"


def _convert(name: str, kind: Any, value: Any, origin: str, file: Path | None) -> Any:
    where = name if origin == "flag" else f"{origin}: {name}"
    # In a file, lists and numbers are written as such; the environment has only text.
    text = origin.startswith(ENVIRONMENT_PREFIX) and isinstance(value, str)
    if kind == tuple[str, ...]:
        items = value.split(",") if text else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
            raise InvalidConfiguration(f"{where}: {value!r:.80} is no list of texts")
        if len(items) > LIST_MAX:
            raise InvalidConfiguration(f"{where}: has {len(items)} entries, at most {LIST_MAX} are possible")
        return tuple(item.strip() for item in items if item.strip())
    if kind is bool:
        if isinstance(value, bool):
            return value
        if text and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        raise InvalidConfiguration(f"{where}: {value!r:.80} is neither true nor false")
    if kind is int:
        if text and value.strip().isdecimal():
            return int(value)
        if type(value) is not int:
            raise InvalidConfiguration(f"{where}: {value!r:.80} is no whole number")
        return value
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise InvalidConfiguration(f"{where}: {value!r:.80} is no text")
    if kind in (str, str | None):
        return value
    path = Path(value).expanduser()
    # A file speaks of paths beside itself, wherever the node is started.
    return file.absolute().parent / path if file is not None and origin == str(file) else path


def _within(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidConfiguration(f"{name}: {value} is out of bounds, {least} to {most}")


def _is_multiaddress(text: str) -> bool:
    found = _MULTIADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > PORT_MAX:
        return False
    if found["kind"].startswith("dns"):
        return True
    try:
        return ip_address(found["host"]).version == int(found["kind"][2])
    except ValueError:
        return False


def _check_address(name: str, value: str | None) -> None:
    if value is None:
        return
    from noria.primitives.addresses import parse_address

    try:
        parse_address(value)
    except ValueError as error:
        raise InvalidConfiguration(f"{name}: {error}") from None
