"""What every other room agrees on: hashes, RLP, keys, amounts, hexadecimal text and addresses.

Each file can be read alone. Bytes stay plain `bytes`; `noria.primitives.types` names them for the type
checker.
"""
