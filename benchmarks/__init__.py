"""Benchmarks: programs that print a table with the peer beside us, in one run on one machine."""
