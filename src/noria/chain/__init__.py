"""The chain of one node: engine and mempool joined, block production, and what subscribers are told."""
