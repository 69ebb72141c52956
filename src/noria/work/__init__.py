"""Useful work: programs, units of work, what proves them, and where their bytes are kept (protocol 2 and 3).

Each file can be read alone. `noria.work.ids` names programs, inputs, outputs and units; `noria.work.receipts`
says what a miner claims about one unit, `noria.work.batches` joins receipts under one root with proofs, and
`noria.work.blobs` keeps content-addressed bytes on disk.
"""
