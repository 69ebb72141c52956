"""A small JSON-RPC client for commands: one request at a time, every size and wait bounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from noria.cli.errors import BadArgument, CommandError
from noria.client.node_url import DEFAULT_URL as DEFAULT_URL
from noria.client.node_url import MAX_ANSWER_BYTES, WAIT_SECONDS, InvalidUrl, parse_url, read_quantity

if TYPE_CHECKING:
    from http.client import HTTPConnection
    from urllib.parse import SplitResult


class Refused(CommandError):
    """The node answered with a JSON-RPC error.

    Attributes
    ----------
    code
        The JSON-RPC error code.
    data
        Revert data or ``None``.
    """

    def __init__(self, method: str, code: int, message: str, data: Any) -> None:
        super().__init__(f"the node refused {method}: {message} (code {code})")
        self.code = code
        self.data = data


class Endpoint:
    """A node's HTTP endpoint.

    Parameters
    ----------
    url
        ``http://host:port`` or ``https://…``.

    Examples
    --------
    >>> Endpoint("http://127.0.0.1:8545").call("eth_chainId")  # doctest: +SKIP
    '0x4e4f52'
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._parts = _parse(url)
        self._next_id = 1

    def call(self, method: str, *params: object) -> Any:
        """Send one request and return its result; raise `Refused` or `CommandError`."""
        request = {"jsonrpc": "2.0", "id": self._next_id, "method": method, "params": params}
        self._next_id += 1
        answer = self._post(json.dumps(request).encode())
        if not isinstance(answer, dict):
            raise CommandError(f"{self.url} does not speak JSON-RPC: the answer is not an object")
        error = answer.get("error")
        if isinstance(error, dict):
            code = error.get("code")
            raise Refused(
                method, code if isinstance(code, int) else 0, str(error.get("message", "")), error.get("data")
            )
        if "result" not in answer:
            raise CommandError(f"{self.url} does not speak JSON-RPC: neither result nor error in the answer")
        return answer["result"]

    def quantity(self, method: str, *params: object) -> int:
        """Send one request whose result is a hexadecimal quantity."""
        return parse_quantity(self.call(method, *params), method)

    def _post(self, body: bytes) -> Any:
        from http.client import HTTPException

        connection = self._connect()
        try:
            path = self._parts.path or "/"
            if self._parts.query:
                path += f"?{self._parts.query}"
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
        except TimeoutError:
            raise CommandError(f"{self.url} did not answer within {WAIT_SECONDS:.0f} s") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandError(f"cannot reach a node at {self.url}: {reason}") from None
        finally:
            connection.close()
        if len(answer) > MAX_ANSWER_BYTES:
            raise CommandError(f"{self.url} sent more than {MAX_ANSWER_BYTES} bytes")
        try:
            return json.loads(answer)
        except (ValueError, RecursionError):
            raise CommandError(f"{self.url} answered HTTP {response.status} without JSON") from None

    def _connect(self) -> HTTPConnection:
        # Imported late, like all that other commands do not need: `noria --help` should be quick.
        import ssl
        from http.client import HTTPConnection, HTTPSConnection

        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return HTTPSConnection(host, port, timeout=WAIT_SECONDS, context=context)
        return HTTPConnection(host, port, timeout=WAIT_SECONDS)


def parse_quantity(value: object, what: str) -> int:
    """Read a ``0x`` quantity of at most 256 bits that a node sent."""
    try:
        return read_quantity(value, what)
    except ValueError as error:
        raise CommandError(str(error)) from None


def _parse(url: str) -> SplitResult:
    try:
        return parse_url(url)
    except InvalidUrl as error:
        raise BadArgument(f"--rpc {error}") from None
