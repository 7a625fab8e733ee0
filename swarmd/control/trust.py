"""What images must be: keys and rules of the swarm, signatures and scans of images, and who may run.

service create ──► digest ──► rule for its name ──► evidence in the store ──► yes, or the reason
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection

import msgspec
import structlog

from swarmd.control.again import insist
from swarmd.control.core import trust as rules
from swarmd.control.evidence import (
    Blob,
    Holding,
    Keep,
    Outside,
    kept_elsewhere,
    manifests_about,
    no_blob,
    nobody_collects,
    nothing_outside,
)
from swarmd.control.naming import Held, Names, nobody_holds
from swarmd.control.pinning import Ask, Locator, nobody_knows
from swarmd.image.core.manifest import MANIFEST, sha256
from swarmd.image.trust.core import artifact, patterns, simple_signing
from swarmd.image.trust.core.artifact import Signature
from swarmd.image.trust.core.policy import (
    LEVELS,
    UNKNOWN,
    Evidence,
    Policy,
    Signed,
    Verdict,
    judge,
    known_as,
    signers,
)
from swarmd.kit.clock import Clock
from swarmd.model import image_ref
from swarmd.model.errors import Conflict, Invalid, NotFound, Refused, SwarmError
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import ImageScan, RegistryManifest, RegistryTag, TrustKey, TrustRule
from swarmd.model.replace import replace
from swarmd.security import verifying
from swarmd.store.core.transaction import Change, Delete, Put
from swarmd.store.store import Store

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}", re.ASCII)
_MOST = 1000
_MOST_SIGNATURES = 500
PATIENCE = 10.0
"""Seconds for an outside registry to give its signatures."""


class Known(msgspec.Struct, frozen=True):
    """What ``trust inspect`` shows: each signature with who made it, and the verdict."""

    ref: ImageRef
    signatures: tuple[tuple[Signature, Signed], ...]
    scan: ImageScan | None
    verdict: Verdict


class Trusts:
    """The use cases; runs on the leader."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        locate: Callable[[], Locator],
        *,
        blob: Blob = no_blob,
        keep: Keep = kept_elsewhere,
        holding: Holding = nobody_collects,
        domains: Collection[str] = ("localhost:5000", "127.0.0.1:5000"),
        outside: Outside = nothing_outside,
        held: Held = nobody_holds,
        ask: Ask = nobody_knows,
    ) -> None:
        self._log = structlog.get_logger()
        self._store = store
        self._clock = clock
        self._locate = locate
        self._blob = blob
        self._keep = keep
        self._holding = holding
        self._domains = domains
        self._outside = outside
        self._names = Names(store, clock, held, ask, domains)

    # -- keys and rules --------------------------------------------------------------------------

    def policy(self) -> Policy:
        """Rules and keys, each in the order of its names."""
        return Policy(
            tuple(sorted(self._store.all(TrustRule), key=lambda row: row.id)),
            tuple(sorted(self._store.all(TrustKey), key=lambda row: row.id)),
        )

    async def add_key(self, name: str, pem: bytes, added_by: str = "") -> TrustKey:
        """A key (or certificate) that rules can name.  Raises Invalid, Conflict for a name that is taken."""
        if not _NAME.fullmatch(name):
            raise Invalid(f'invalid name "{name}" for a key: letters, digits and _ . - (at most 100)')
        verifying.public_key(pem)
        if self._store.get(TrustKey, name) is not None:
            raise Conflict(
                f"a trust key {name} exists already: remove it first (trust key rm), or take another name"
            )
        if len(self._store.all(TrustKey)) >= _MOST:
            raise Refused(f"the swarm has {_MOST} trust keys, the most there may be")
        row = TrustKey(id=name, pem=pem, added_by=added_by)
        await self._store.commit([Put(row)])
        return self._store.get(TrustKey, name) or row

    async def remove_key(self, name: str) -> None:
        """Raises NotFound, Refused while a rule names it."""

        async def attempt() -> None:
            row = self._store.get(TrustKey, name)
            if row is None:
                raise NotFound(f"No such trust key: {name}")
            users = [rule.id for rule in self.policy().rules if name in rule.keys]
            if users:
                raise Refused(f"trust key {name} is named by the rule {', '.join(users)}: change that first")
            await self._store.commit([Delete(TrustKey, row.id, row.version)])

        await insist(attempt)

    async def set_rule(self, rule: TrustRule) -> str:
        """A new rule, or another one for the same pattern; answers the pattern.  Raises Invalid, NotFound."""
        fresh = rules.checked(rule, {row.id for row in self._store.all(TrustKey)})

        async def attempt() -> None:
            held = self._store.get(TrustRule, fresh.id)
            if held is None and len(self._store.all(TrustRule)) >= _MOST:
                raise Refused(f"the swarm has {_MOST} trust rules, the most there may be")
            version, created = (held.version, held.created_at) if held is not None else (0, 0.0)
            await self._store.commit([Put(replace(fresh, version=version, created_at=created))])

        await insist(attempt)
        return fresh.id

    async def remove_rule(self, pattern: str) -> None:
        """Raises NotFound."""
        row_id = patterns.complete(pattern)

        async def attempt() -> None:
            row = self._store.get(TrustRule, row_id)
            if row is None:
                raise NotFound(f"No such trust rule: {row_id}")
            await self._store.commit([Delete(TrustRule, row.id, row.version)])

        await insist(attempt)

    # -- evidence --------------------------------------------------------------------------------

    def subject(self, image: str) -> ImageRef:
        """The image with the digest it has now.  Raises NotFound when nobody here knows one."""
        ref = image_ref.parse(image)
        digest = ref.digest or self._tagged(ref) or self._locate()(ref)
        if not digest:
            raise NotFound(f"No such image: {ref.familiar()}")
        return ref.pinned(digest)

    async def attach(self, image: str, one: Signature) -> tuple[str, str, str]:
        """Keep a signature; answers repository, tag and digest of the manifest that now holds it.

        Raises Invalid for one that is not of this image.
        """
        claim = simple_signing.read_payload(one.payload)
        ref = image_ref.parse(image).pinned(claim.digest)
        if patterns.canonical(claim.name) != patterns.canonical(ref.name):
            raise Invalid(f"the signature is for the name {claim.name}, not for {ref.name}")
        signer = verifying.public_key(one.certificate) if one.certificate else None
        if signer is not None and not verifying.is_signed_by(signer, one.payload, one.signature):
            raise Invalid("the certificate's key did not make this signature")

        async def attempt() -> tuple[str, str, str]:
            return await self._attach(ref, one)

        return await insist(attempt)

    async def _attach(self, ref: ImageRef, one: Signature) -> tuple[str, str, str]:
        repository, tag = rules.repository_of(ref, self._domains), artifact.tag_of(ref.digest)
        held = [each for each in await self._signatures(ref) if each != one]
        if len(held) >= artifact.MOST:
            raise Refused(f"{ref.familiar()} has {artifact.MOST} signatures, the most there may be")
        image = self._store.get(RegistryManifest, f"{repository}@{ref.digest}")
        size, media_type = (len(image.data), image.media_type) if image is not None else (0, MANIFEST)
        written = artifact.write(ref.digest, size, media_type, (*held, one))
        with self._holding([sha256(blob) for blob in written.blobs]):
            for blob in written.blobs:
                await self._keep(blob)
            await self._store.commit(self._rows(ref, written))
        return repository, tag, written.digest

    def _rows(self, ref: ImageRef, written: artifact.Written) -> list[Change]:
        repository, tag = rules.repository_of(ref, self._domains), artifact.tag_of(ref.digest)
        tagged = self._store.get(RegistryTag, f"{repository}:{tag}")
        held = {row.digest: row for row in self._store.referrers(repository, ref.digest)}
        return rules.signature_rows(
            repository, ref.digest, written, tagged=tagged, held=held, now=self._clock.now()
        )

    async def evidence(self, ref: ImageRef, *, for_node: bool = False) -> Evidence:
        """What is known of ``ref.digest`` under its name, and under which others it is."""
        scan = self._store.get(ImageScan, ref.digest)
        return Evidence(await self._signatures(ref), scan, await self._names.of(ref, for_node=for_node))

    async def record_scan(self, scan: ImageScan) -> None:
        """What a scan found, in place of what one before it did.  Raises Invalid."""
        if not image_ref.is_digest(scan.id):
            raise Invalid(f'a scan is of a manifest\'s digest, not of "{scan.id}"')
        unknown = [level for level in scan.counts if level not in (*LEVELS, UNKNOWN)]
        if unknown:
            raise Invalid(f'unknown severity "{unknown[0]}": use {", ".join((*LEVELS, UNKNOWN))}')

        async def attempt() -> None:
            held = self._store.get(ImageScan, scan.id)
            version, created = (held.version, held.created_at) if held is not None else (0, 0.0)
            await self._store.commit(
                [Put(replace(scan, version=version, created_at=created, scanned_at=self._clock.now()))]
            )

        await insist(attempt)

    # -- verdicts --------------------------------------------------------------------------------

    async def inspect(self, image: str) -> Known:
        """Everything about one image.  Raises NotFound."""
        ref = self.subject(image)
        policy, evidence, now = self.policy(), await self.evidence(ref), self._clock.now()
        each = tuple((one, signers(ref, (one,), policy.keys, now)) for one in evidence.signatures)
        return Known(ref, each, evidence.scan, await self._judged(policy, ref, evidence))

    async def admit(self, ref: ImageRef) -> None:
        """Raises Refused, with rule and reason, for an image that may not run."""
        policy = self.policy()
        if not policy.rules:
            return
        evidence = await self.evidence(ref) if ref.digest else Evidence()
        verdict = await self._judged(policy, ref, evidence)
        could = not verdict.is_good and bool(ref.digest) and verdict.action == "require"
        if could and await self._fetched(ref, policy):
            verdict = await self._judged(policy, ref, await self.evidence(ref))
        if not verdict.is_good:
            raise Refused(verdict.sentence(ref.familiar()))

    async def _judged(self, policy: Policy, ref: ImageRef, evidence: Evidence) -> Verdict:
        """By its name; and by other names of its digest where only whoever asks says that this is one."""
        verdict = judge(policy, ref, evidence, self._clock.now())
        if not verdict.is_good or verdict.signed_by or not ref.digest:
            return verdict
        for other in patterns.stands_for(ref, evidence.names)[1:]:
            found = judge(policy, other, await self.evidence(other), self._clock.now())
            if not found.is_good:
                return known_as(ref, other, found)
        return verdict

    async def _fetched(self, ref: ImageRef, policy: Policy) -> bool:
        """Whether the image's own registry had signatures that count; they are kept here, for the nodes."""
        if rules.is_own(ref, self._domains):
            return False
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._outside(ref)
        except (SwarmError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            self._log.info("signatures_not_fetched", image=ref.familiar(), reason=reason)
            return False
        now = self._clock.now()
        good = [one for one in found if signers(ref, (one,), policy.keys, now).by]
        for one in good:
            await self.attach(ref.familiar(), one)
        return bool(good)

    # -- inside ----------------------------------------------------------------------------------

    def _tagged(self, ref: ImageRef) -> str:
        row = self._store.get(RegistryTag, f"{rules.repository_of(ref, self._domains)}:{ref.tag}")
        return row.digest if row is not None else ""

    async def _signatures(self, ref: ImageRef) -> tuple[Signature, ...]:
        found: dict[Signature, None] = {}
        for row in manifests_about(self._store, rules.repository_of(ref, self._domains), ref.digest):
            if len(found) >= _MOST_SIGNATURES:
                break
            blobs = {digest: await self._blob(digest) for digest in artifact.wanted(row.data)}
            try:
                found |= dict.fromkeys(artifact.read(row.data, blobs.get))
            except Invalid:
                continue  # something else that somebody pushed
        return tuple(found)
