"""Noria: a node whose execution layer speaks Ethereum, and work that runs the same on every machine.

`Executor` runs Python functions on miners' machines, `ProgramExecutor` WebAssembly programs, and
`LocalExecutor` functions in the sandbox on this one; they are loaded when they are asked for.

Rooms, lowest first; each imports only those below it:

- `noria.primitives`: hashes, RLP, keys, amounts, hexadecimal text, addresses.
- `noria.work`: units of work, receipts, Python functions as data, the processes that run them.
- `noria.execution`: chain specification, system contracts, mempool, accounts.
- `noria.consensus`: what makes a block right, as pure functions.
- `noria.chain`: the one writer that joins engine and mempool; block production; events.
- `noria.node`: a node put together and its life.
- `noria.rpc`: Ethereum's JSON-RPC over HTTP and WebSocket.
- `noria.client`: what programs use to have their work done.
- `noria.cli`: the ``noria`` command.

`noria._core` holds the Rust engines; its stub is the contract between both languages.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noria.client.executor import LocalExecutor
    from noria.client.network_executor import Executor
    from noria.client.program_executor import ProgramExecutor

__all__ = ["Executor", "LocalExecutor", "ProgramExecutor"]


def __getattr__(name: str) -> Any:
    if name == "Executor":
        from noria.client.network_executor import Executor

        return Executor
    if name == "LocalExecutor":
        from noria.client.executor import LocalExecutor

        return LocalExecutor
    if name == "ProgramExecutor":
        from noria.client.program_executor import ProgramExecutor

        return ProgramExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
