"""Consensus as pure functions over frozen data: slots, weight, lottery, certificates, votes, fork choice.

Protocol 4.

Nothing here reads a clock, a socket, a disk or a database, and nothing uses floating point: what a function
needs is handed to it, and two nodes with the same arguments get the same answer. Each file can be read alone
and each function names the section of the protocol that it writes down. ``docs/consensus.md`` tells the
whole.
"""
