"""Reached only by an import inside a function."""


def answer() -> float:
    return 4.2
