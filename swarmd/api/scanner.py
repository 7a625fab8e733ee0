"""The Scanner service: what is installed in an image of this node, and which advisories are about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from swarmd.image.scan import inventory
from swarmd.image.scan.core import cyclonedx, osv
from swarmd.image.scan.core.osv import Finding, Matcher
from swarmd.image.scan.core.packages import Inventory, Package, purl
from swarmd.image.store import ImageStore
from swarmd.kit.clock import Clock
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, SwarmError
from swarmd.rpc import errors
from swarmd.rpc.v1 import trust_pb2 as pb
from swarmd.rpc.v1 import trust_pb2_grpc

# gRPC method names are the protocol's.
# ruff: noqa: N802


class ScannerServer(trust_pb2_grpc.ScannerServicer):
    """Of one node."""

    def __init__(self, images: ImageStore, clock: Clock) -> None:
        self._images = images
        self._clock = clock

    async def GetInventory(self, request: pb.GetInventoryRequest, context: Any) -> pb.GetInventoryResponse:
        try:
            digest, found = await inventory.of_image(self._images, request.ref)
            response = pb.GetInventoryResponse(
                digest=digest,
                distribution=found.distribution.shown(),
                packages=[_package(one, found) for one in found.packages],
                warnings=found.problems,
            )
            if request.document:
                name = self._name(request.ref, digest)
                now = self._clock.now()
                response.document = await asyncio.to_thread(
                    cyclonedx.write, found, image=name, digest=digest, at=now
                )
        except SwarmError as error:
            await errors.abort(context, error)
        return response

    async def ReadFindings(
        self, request_iterator: AsyncIterator[pb.ReadFindingsRequest], context: Any
    ) -> pb.ReadFindingsResponse:
        try:
            first = await anext(request_iterator, None)
            if first is None:
                raise Invalid("a scan begins with the name of the image")
            digest, found = await inventory.of_image(self._images, first.ref)
            matcher = Matcher(found)
            async for message in request_iterator:
                await asyncio.to_thread(_feed, matcher, message)
        except SwarmError as error:
            await errors.abort(context, error)
        findings = await asyncio.to_thread(matcher.findings)
        response = pb.ReadFindingsResponse(
            digest=digest,
            name=self._name(first.ref, digest),
            distribution=found.distribution.shown(),
            packages=len(found.packages),
            advisories=matcher.count,
            findings=[_finding(one) for one in findings],
            counts=osv.counts(findings),
            scanned_at=self._clock.now(),
            warnings=found.problems,
        )
        if matcher.unreadable:
            response.warnings.append(
                f"{matcher.unreadable} of {matcher.count} advisories could not be read or compared"
            )
        return response

    def _name(self, ref: str, digest: str) -> str:
        """The repository that is meant; the first one when the image was named by its id."""
        refs = self._images.resolve(digest).refs
        asked = image_ref.parse(ref).familiar() if not _is_id(ref) else ""
        name = asked if asked in refs or "@" in asked else next(iter(refs), ref)
        return image_ref.parse(name).familiar_name() if not _is_id(name) else name


def _is_id(text: str) -> bool:
    try:
        image_ref.parse(text)
    except Invalid:
        return True
    return False


def _feed(matcher: Matcher, message: pb.ReadFindingsRequest) -> None:
    for raw in message.advisories:
        matcher.feed(raw)


def _package(one: Package, found: Inventory) -> pb.Package:
    return pb.Package(
        kind=one.kind,
        name=one.name,
        version=one.version,
        source=one.source,
        source_version=one.source_version,
        arch=one.arch,
        path=one.path,
        purl=purl(one, found.distribution),
    )


def _finding(one: Finding) -> pb.Finding:
    return pb.Finding(
        id=one.id,
        aliases=one.aliases,
        severity=one.level,
        score=one.score,
        package=one.package.name,
        version=one.package.version,
        fixed=one.fixed,
        summary=one.summary,
        kind=one.package.kind,
        path=one.package.path,
    )
