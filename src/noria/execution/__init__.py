"""Execution: the chain specification, system contracts, accounts and the mempool around the EVM engine."""
