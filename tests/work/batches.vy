# pragma version 0.4.3
# pragma evm-version prague
# pragma optimize gas
"""
@title Batches
@license Apache-2.0
@notice Recomputes receipts, sum nodes and paths as a contract of the market would. Only tests use it.
"""

struct Root:
    hash: bytes32
    fuel: uint64
    weight: uint64
    fuel_before: uint64
    weight_before: uint64

@external
@pure
def unit_id(program_id: bytes32, input_id: bytes32, fuel_limit: uint64) -> bytes32:
    return keccak256(concat(b"noria/unit/1", program_id, input_id, convert(fuel_limit, bytes8)))

@external
@pure
def leaf(
    genesis_root: bytes32, job: uint256, k: uint32, miner: address, index: uint64,
    unit: bytes32, output: bytes32, status: uint8, fuel: uint64, weight: uint64,
) -> bytes32:
    return keccak256(
        concat(
            b"noria/receipt/1", genesis_root, convert(job, bytes32), convert(k, bytes4), convert(miner, bytes20),
            convert(index, bytes8), unit, output, convert(status, bytes1), convert(fuel, bytes8),
            convert(weight, bytes8),
        )
    )

@internal
@pure
def _node(
    left: bytes32, left_fuel: uint64, left_weight: uint64, right: bytes32, right_fuel: uint64, right_weight: uint64
) -> bytes32:
    return keccak256(
        concat(
            b"noria/sum/1", left, convert(left_fuel, bytes8), convert(left_weight, bytes8),
            right, convert(right_fuel, bytes8), convert(right_weight, bytes8),
        )
    )

@external
@pure
def node(
    left: bytes32, left_fuel: uint64, left_weight: uint64, right: bytes32, right_fuel: uint64, right_weight: uint64
) -> bytes32:
    return self._node(left, left_fuel, left_weight, right, right_fuel, right_weight)

@external
@pure
def fold(receipt: Bytes[192], path: Bytes[576], first_index: uint64, count: uint256) -> Root:
    """
    @notice From the bytes of a receipt and of its path to the root.
    """
    assert len(receipt) == 192, "no receipt"
    index: uint64 = convert(convert(slice(receipt, 103, 8), bytes8), uint64)
    fuel: uint64 = convert(convert(slice(receipt, 176, 8), bytes8), uint64)
    weight: uint64 = convert(convert(slice(receipt, 184, 8), bytes8), uint64)
    assert weight == fuel or weight == 0, "wrong weight"
    position: uint256 = convert(index - first_index, uint256)
    assert position < count and count <= 4096, "not in the batch"
    root: Root = Root(hash=keccak256(receipt), fuel=fuel, weight=weight, fuel_before=0, weight_before=0)
    left: uint256 = count
    start: uint256 = 0
    for level: uint256 in range(12):
        if left == 1:
            break
        if position & 1 == 1 or position + 1 < left:
            assert start + 48 <= len(path), "path too short"
            hash: bytes32 = convert(slice(path, start, 32), bytes32)
            sibling_fuel: uint64 = convert(convert(slice(path, start + 32, 8), bytes8), uint64)
            sibling_weight: uint64 = convert(convert(slice(path, start + 40, 8), bytes8), uint64)
            start += 48
            if position & 1 == 1:
                root.hash = self._node(hash, sibling_fuel, sibling_weight, root.hash, root.fuel, root.weight)
                root.fuel_before += sibling_fuel
                root.weight_before += sibling_weight
            else:
                root.hash = self._node(root.hash, root.fuel, root.weight, hash, sibling_fuel, sibling_weight)
            root.fuel += sibling_fuel
            root.weight += sibling_weight
        position = position >> 1
        left = (left + 1) >> 1
    assert start == len(path), "path too long"
    return root
