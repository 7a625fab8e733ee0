"""The Trust service: keys, rules, signatures and scans of the swarm, and what nodes are told of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from swarmd.control.trust import Known, Trusts
from swarmd.image.trust.core.artifact import Signature
from swarmd.image.trust.core.policy import Evidence
from swarmd.image.trust.core.simple_signing import write_payload
from swarmd.model.errors import SwarmError
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import ImageScan, TrustKey, TrustRule
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import trust_pb2 as pb
from swarmd.rpc.v1 import trust_pb2_grpc
from swarmd.security import verifying

T = TypeVar("T")

# gRPC method names are the protocol's.
# ruff: noqa: N802


class TrustServer(trust_pb2_grpc.TrustServicer):
    """What a leader answers; ``cases``: those of the manager this node is now."""

    def __init__(self, cases: Callable[[], Trusts]) -> None:
        self._cases = cases

    async def AddTrustKey(self, request: pb.AddTrustKeyRequest, context: Any) -> pb.AddTrustKeyResponse:
        async def answer() -> pb.AddTrustKeyResponse:
            row = await self._cases().add_key(request.name, request.pem, request.added_by)
            return pb.AddTrustKeyResponse(added=_key(row))

        return await _answer(context, answer)

    async def ListTrustKeys(self, request: pb.ListTrustKeysRequest, context: Any) -> pb.ListTrustKeysResponse:
        async def answer() -> pb.ListTrustKeysResponse:
            return pb.ListTrustKeysResponse(keys=[_key(row) for row in self._cases().policy().keys])

        return await _answer(context, answer)

    async def RemoveTrustKey(
        self, request: pb.RemoveTrustKeyRequest, context: Any
    ) -> pb.RemoveTrustKeyResponse:
        async def answer() -> pb.RemoveTrustKeyResponse:
            await self._cases().remove_key(request.name)
            return pb.RemoveTrustKeyResponse()

        return await _answer(context, answer)

    async def SetTrustRule(self, request: pb.SetTrustRuleRequest, context: Any) -> pb.SetTrustRuleResponse:
        async def answer() -> pb.SetTrustRuleResponse:
            pattern = await self._cases().set_rule(codec.from_proto(TrustRule, request.rule))
            return pb.SetTrustRuleResponse(pattern=pattern)

        return await _answer(context, answer)

    async def ListTrustRules(
        self, request: pb.ListTrustRulesRequest, context: Any
    ) -> pb.ListTrustRulesResponse:
        async def answer() -> pb.ListTrustRulesResponse:
            rules = self._cases().policy().rules
            return pb.ListTrustRulesResponse(rules=[codec.to_proto(row) for row in rules])

        return await _answer(context, answer)

    async def RemoveTrustRule(
        self, request: pb.RemoveTrustRuleRequest, context: Any
    ) -> pb.RemoveTrustRuleResponse:
        async def answer() -> pb.RemoveTrustRuleResponse:
            await self._cases().remove_rule(request.pattern)
            return pb.RemoveTrustRuleResponse()

        return await _answer(context, answer)

    async def ReadClaim(self, request: pb.ReadClaimRequest, context: Any) -> pb.ReadClaimResponse:
        async def answer() -> pb.ReadClaimResponse:
            ref = self._cases().subject(request.image)
            payload = write_payload(ref.name, ref.digest, dict(request.annotations))
            return pb.ReadClaimResponse(name=ref.name, digest=ref.digest, payload=payload)

        return await _answer(context, answer)

    async def AddSignature(self, request: pb.AddSignatureRequest, context: Any) -> pb.AddSignatureResponse:
        async def answer() -> pb.AddSignatureResponse:
            one = signature(request.signature)
            repository, tag, digest = await self._cases().attach(request.image, one)
            return pb.AddSignatureResponse(repository=repository, tag=tag, digest=digest)

        return await _answer(context, answer)

    async def ReadTrust(self, request: pb.ReadTrustRequest, context: Any) -> pb.ReadTrustResponse:
        async def answer() -> pb.ReadTrustResponse:
            return _known(await self._cases().inspect(request.image))

        return await _answer(context, answer)

    async def RecordScan(self, request: pb.RecordScanRequest, context: Any) -> pb.RecordScanResponse:
        async def answer() -> pb.RecordScanResponse:
            await self._cases().record_scan(codec.from_proto(ImageScan, request.scan))
            return pb.RecordScanResponse()

        return await _answer(context, answer)


class EvidenceServer(trust_pb2_grpc.TrustEvidenceServicer):
    """For the nodes of the swarm."""

    def __init__(self, cases: Callable[[], Trusts]) -> None:
        self._cases = cases

    async def GetEvidence(self, request: pb.GetEvidenceRequest, context: Any) -> pb.GetEvidenceResponse:
        async def answer() -> pb.GetEvidenceResponse:
            ref = ImageRef(request.name, "", request.digest)
            found = await self._cases().evidence(ref, for_node=True)
            response = pb.GetEvidenceResponse(
                signatures=[_wire(one) for one in found.signatures], names=found.names
            )
            if found.scan is not None:
                codec.fill(response.scan, found.scan)
            return response

        return await _answer(context, answer)


def signature(message: pb.ImageSignature) -> Signature:
    """A signature as a message has it."""
    return Signature(message.payload, message.signature, message.certificate, message.chain)


def evidence(response: pb.GetEvidenceResponse) -> Evidence:
    """What a manager knows of an image."""
    scan = codec.from_proto(ImageScan, response.scan) if response.HasField("scan") else None
    return Evidence(tuple(signature(one) for one in response.signatures), scan, tuple(response.names))


def _wire(one: Signature) -> pb.ImageSignature:
    return pb.ImageSignature(
        payload=one.payload, signature=one.signature, certificate=one.certificate, chain=one.chain
    )


def _key(row: TrustKey) -> pb.TrustKeyView:
    is_certificate = verifying.is_certificate(row.pem)
    return pb.TrustKeyView(
        name=row.id,
        kind="certificate" if is_certificate else verifying.kind(verifying.public_key(row.pem)),
        fingerprint=verifying.fingerprint(row.pem),
        pem=row.pem,
        created_at=row.created_at,
        added_by=row.added_by,
    )


def _known(known: Known) -> pb.ReadTrustResponse:
    verdict = known.verdict
    response = pb.ReadTrustResponse(
        name=known.ref.name,
        digest=known.ref.digest,
        rule=verdict.rule,
        action=verdict.action,
        refusal="" if verdict.is_good else verdict.sentence(known.ref.familiar()),
        signed_by=verdict.signed_by,
    )
    for one, signed in known.signatures:
        view = response.signatures.add(signed_by=signed.by, problems=signed.problems)
        view.signature.CopyFrom(_wire(one))
    if known.scan is not None:
        codec.fill(response.scan, known.scan)
    return response


async def _answer(context: Any, answer: Callable[[], Awaitable[T]]) -> T:
    try:
        return await answer()
    except SwarmError as error:
        await errors.abort(context, error)
