"""Noria: a node whose execution layer speaks Ethereum.

Rooms, lowest first; each imports only those below it:

- `noria.primitives`: hashes, RLP, keys, amounts, hexadecimal text, addresses.
- `noria.execution`: chain specification, system contracts, mempool, accounts.
- `noria.chain`: the one writer that joins engine and mempool; block production; events.
- `noria.node`: a node put together and its life.
- `noria.rpc`: Ethereum's JSON-RPC over HTTP and WebSocket.
- `noria.cli`: the ``noria`` command.

`noria._core` holds the Rust engines; its stub is the contract between both languages.
"""
