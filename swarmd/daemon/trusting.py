"""A node's own judgement of images, wired: what its session says of rules, whom it asks for evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

import grpc

from swarmd.api.trust import evidence
from swarmd.control.evidence import Outside
from swarmd.control.naming import Held
from swarmd.control.pinning import Ask, Locator
from swarmd.control.trust import Trusts
from swarmd.image.port import Content
from swarmd.image.store import ImageStore
from swarmd.image.trust.core import simple_signing
from swarmd.image.trust.core.policy import Evidence, Policy
from swarmd.kit.clock import Clock
from swarmd.model.errors import NotFound
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import TrustKey, TrustRule
from swarmd.node.admission import Admission
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import agent_pb2, trust_pb2, trust_pb2_grpc
from swarmd.store.store import Store

LIMIT = 10.0
"""Seconds for a manager to answer."""


def admission(
    path: Path, images: ImageStore, leader: Callable[[], grpc.aio.Channel], clock: Clock
) -> Admission:
    """``path``: of the policy; ``leader``: a channel to it; raises Unavailable while there is none."""

    async def ask(ref: ImageRef) -> Evidence:
        request = trust_pb2.GetEvidenceRequest(name=ref.name, digest=ref.digest)
        with errors.calling():
            stub = trust_pb2_grpc.TrustEvidenceStub(leader())
            return evidence(await stub.GetEvidence(request, timeout=LIMIT))

    return Admission(path, images, ask, clock)


def trusts(
    store: Store,
    clock: Clock,
    locate: Callable[[], Locator],
    content: Content,
    domains: Collection[str],
    outside: Outside,
    held: Held,
    ask: Ask,
) -> Trusts:
    """The use cases of a manager, which reads and keeps small blobs in its own ``content``."""

    async def blob(digest: str) -> bytes | None:
        try:
            if not content.has(digest) or content.size(digest) > simple_signing.MOST:
                return None
            return await asyncio.to_thread(content.path(digest).read_bytes)
        except (OSError, NotFound):
            return None  # collected a moment ago

    return Trusts(
        store,
        clock,
        locate,
        blob=blob,
        keep=content.put,
        holding=content.holding,
        domains=domains,
        outside=outside,
        held=held,
        ask=ask,
    )


def policy_of(info: agent_pb2.SessionInfo) -> Policy:
    """What images must be, as the leader says it."""
    return Policy(
        tuple(codec.from_proto(TrustRule, rule) for rule in info.trust_rules),
        tuple(codec.from_proto(TrustKey, key) for key in info.trust_keys),
    )
