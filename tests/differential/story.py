"""A story: signed transactions in blocks, made so that any node or specification can tell it again."""

from dataclasses import dataclass, field
from typing import Any

from eth_account import Account

from noria.execution.accounts import DevAccount, dev_accounts
from noria.primitives.addresses import checksum_address, create_address
from noria.primitives.types import Address

CHAIN_ID = 5132114
GWEI = 10**9
MAX_FEE_PER_GAS = 20 * GWEI
TIP_PER_GAS = 1 * GWEI
GAS_LIMIT = 1_000_000


@dataclass
class Story:
    """Collects transactions of the funded development accounts, block by block.

    Senders are numbers of accounts. Nonces are counted here: every transaction is meant to be included.
    """

    accounts: list[DevAccount] = field(default_factory=dev_accounts)
    nonces: dict[int, int] = field(default_factory=dict)
    blocks: list[list[bytes]] = field(default_factory=lambda: [[]])
    watched: set[bytes] = field(default_factory=set)

    def address(self, number: int) -> Address:
        return self.accounts[number].address

    def next_nonce(self, number: int) -> int:
        nonce = self.nonces.get(number, 0)
        self.nonces[number] = nonce + 1
        return nonce

    def send(
        self, sender: int, to: bytes | None, *, data: bytes = b"", value: int = 0, **fields: Any
    ) -> None:
        """Add a transaction: EIP-1559, unless the fields say otherwise (``gasPrice``, …)."""
        nonce = self.next_nonce(sender)
        transaction: dict[str, Any] = {
            "chainId": CHAIN_ID,
            "nonce": nonce,
            "gas": GAS_LIMIT,
            "value": value,
            "data": data,
            "to": b"" if to is None else checksum_address(Address(to)),
        }
        if "gasPrice" not in fields:
            transaction |= {"maxFeePerGas": MAX_FEE_PER_GAS, "maxPriorityFeePerGas": TIP_PER_GAS}
        signed = Account.sign_transaction(transaction | fields, self.accounts[sender].private_key)
        self.blocks[-1].append(bytes(signed.raw_transaction))
        self.watched |= {
            self.address(sender),
            create_address(self.address(sender), nonce) if to is None else to,
        }

    def deploy(self, sender: int, init_code: bytes, **fields: Any) -> Address:
        """Add a creation and return the address that the contract gets."""
        created = create_address(self.address(sender), self.nonces.get(sender, 0))
        self.send(sender, None, data=init_code, **fields)
        return created

    def authorization(
        self, authority: int, target: bytes, *, nonce: int | None = None, chain_id: int = CHAIN_ID
    ) -> Any:
        """An EIP-7702 authorisation; without a nonce, the valid one, which is then used up."""
        chosen = self.next_nonce(authority) if nonce is None else nonce
        self.watched.add(self.address(authority))
        return Account.sign_authorization(
            {"chainId": chain_id, "address": checksum_address(Address(target)), "nonce": chosen},
            self.accounts[authority].private_key,
        )

    def mine(self) -> None:
        """End the block; what follows goes into the next one."""
        self.blocks.append([])

    def finished(self) -> list[list[bytes]]:
        """Return the blocks that have transactions."""
        return [block for block in self.blocks if block]
