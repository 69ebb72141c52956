"""Noria: a node whose execution layer speaks Ethereum."""
