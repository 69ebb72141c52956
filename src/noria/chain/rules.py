"""From a chain's specification to the rules that consensus works with, and to the chain's root."""

from __future__ import annotations

from noria._core import INSTRUMENTER_VERSION, Header
from noria.consensus.genesis import ChainDraft, Genesis, genesis_root
from noria.consensus.signatures import BLS, SignatureScheme
from noria.consensus.validity import ChainRules
from noria.execution.spec import ChainSpec
from noria.primitives.types import Hash32
from noria.work.ids import ProgramId


def chain_genesis(spec: ChainSpec, header: Header) -> Genesis:
    """Return everything that makes the chain this one (protocol 1).

    Parameters
    ----------
    spec
        The chain's specification.
    header
        Of the genesis payload that the engine has made of it.
    """
    draft = ChainDraft(
        name=spec.name,
        chain_id=spec.chain_id,
        genesis_seconds=spec.timestamp,
        parameters=spec.parameters,
        hardforks=spec.hardforks,
        instrumenter_version=INSTRUMENTER_VERSION,
        pinned_programs=frozenset(ProgramId(program) for program in spec.programs),
        grants=spec.grants,
    )
    return Genesis(draft, Hash32(header.hash), Hash32(header.state_root))


def chain_rules(spec: ChainSpec, header: Header, scheme: SignatureScheme = BLS) -> ChainRules:
    """Return the rules that are the same for every block of the chain."""
    genesis = chain_genesis(spec, header)
    return ChainRules(
        genesis_root=genesis_root(genesis),
        genesis_seconds=spec.timestamp,
        parameters=spec.parameters,
        pinned_programs=genesis.draft.pinned_programs,
        scheme=scheme,
    )
