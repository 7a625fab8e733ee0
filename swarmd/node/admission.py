"""A node sees for itself that an image may run, before it unpacks or starts it.

    rules and keys ◄── the managers, in the session; kept on disk, so that they hold without a manager too
    signatures, scan ◄── the leader, when a rule requires them

What runs is left alone: a rule is for what begins.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.port import Progress
from swarmd.image.trust.core import patterns
from swarmd.image.trust.core.policy import Evidence, Policy, judge, known_as, needs_evidence
from swarmd.kit.clock import Clock
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound, Refused, Unavailable
from swarmd.model.image_ref import ImageRef
from swarmd.node.distribution.blobs import silent
from swarmd.security.durable import write_durably

Ask = Callable[[ImageRef], Awaitable[Evidence]]
"""What the leader knows of an image; raises Unavailable when it cannot be asked."""


class Images(Protocol):
    """Raises NotFound."""

    def resolve(self, ref_or_id: str) -> ImageInfo: ...


class Fetcher(Protocol):
    """Images of other nodes; raises NotFound, Unavailable."""

    async def ensure(self, ref: str, *, progress: Progress = ...) -> None: ...


class Admission:
    """``path``: where the policy is remembered."""

    def __init__(self, path: Path, images: Images, ask: Ask, clock: Clock) -> None:
        self._path = path
        self._images = images
        self._ask = ask
        self._clock = clock
        self._log = structlog.get_logger()
        self._unreadable = ""
        self._policy = self._load()

    def follow(self, policy: Policy) -> None:
        """What the managers say now."""
        if policy == self._policy and not self._unreadable:
            return
        self._policy, self._unreadable = policy, ""
        self._log.info("trust_policy", rules=len(policy.rules), keys=len(policy.keys))
        try:
            write_durably(self._path, msgspec.json.encode(policy))
        except Unavailable as error:
            self._log.error("trust_policy_not_saved", reason=str(error))

    async def check(self, ref: str, digest: str = "") -> None:
        """``ref``: as a spec has it; without ``digest`` or one in it the image must be here.

        Raises Refused for an image that may not run, Unavailable when that cannot be found out now.
        """
        if self._unreadable:
            raise Unavailable(
                f"waits until a manager says again which images may run: {self._path} {self._unreadable}"
            )
        if not self._policy.rules:
            return
        for one in self._called(ref, digest):
            is_signed = await self._judge(one)
            if not is_signed and self.knows_digest(ref):
                await self._judge_elsewhere(one)

    def knows_digest(self, ref: str) -> bool:
        """Whether :meth:`check` can judge before the image is here."""
        try:
            return bool(image_ref.parse(ref).digest)
        except Invalid:
            return False

    async def _judge(self, ref: ImageRef) -> bool:
        """Whether it is its signatures that let it in."""
        policy = self._policy
        evidence = await self._evidence(ref) if needs_evidence(policy, ref) and ref.digest else Evidence()
        verdict = judge(policy, ref, evidence, self._clock.now())
        if not verdict.is_good:
            raise Refused(verdict.sentence(ref.familiar()))
        return bool(verdict.signed_by)

    async def _judge_elsewhere(self, ref: ImageRef) -> None:
        """A digest behind a name that it is not known under is judged by what it is known under."""
        here = self._names_here(ref.digest)
        if patterns.canonical(ref.name) in map(patterns.canonical, here):
            return
        known = (*here, *(await self._evidence(ref)).names)
        for other in patterns.stands_for(ref, known)[1:]:
            evidence = await self._evidence(other) if needs_evidence(self._policy, other) else Evidence()
            verdict = judge(self._policy, other, evidence, self._clock.now())
            if not verdict.is_good:
                raise Refused(known_as(ref, other, verdict).sentence(ref.familiar()))

    def _names_here(self, digest: str) -> list[str]:
        try:
            info = self._images.resolve(digest)
        except NotFound:
            return []
        return [image_ref.parse(name).name for name in info.refs] or [""]

    async def _evidence(self, ref: ImageRef) -> Evidence:
        try:
            return await self._ask(ref)
        except Unavailable as error:
            raise Unavailable(
                f"waits until image {ref.familiar()} can be checked, which needs a manager: {error}"
            ) from error

    def _called(self, ref: str, digest: str) -> list[ImageRef]:
        """The names that count: the one given, or all that the image has here when it is named by its id.

        A name that leads to another image by now is as good as an id.
        """
        try:
            asked = image_ref.parse(ref)
        except Invalid:
            asked = None
        if asked is not None and asked.digest:
            return [asked]
        info = self._images.resolve(digest or ref)
        names = [image_ref.parse(name) for name in info.refs]
        if asked is not None and any((one.name, one.tag) == (asked.name, asked.tag) for one in names):
            return [asked.pinned(info.digest)]
        return [one.pinned(info.digest) for one in names] or [ImageRef("", "", info.digest)]

    def _load(self) -> Policy:
        """What is remembered; where that cannot be read there may be rules, and nothing may run yet."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Policy)
        except FileNotFoundError:
            return Policy()
        except OSError as error:
            self._unreadable = f"cannot be read: {error.strerror}"
        except msgspec.MsgspecError:
            self._unreadable = "is damaged"
        self._log.error("trust_policy_unreadable", reason=self._unreadable)
        return Policy()


class Admitted:
    """A fetcher whose images may run: judged before they are fetched when their digest is known, or after."""

    def __init__(self, fetcher: Fetcher, admission: Admission) -> None:
        self._fetcher = fetcher
        self._admission = admission

    async def ensure(self, ref: str, *, progress: Progress = silent) -> None:
        """Raises Refused as well."""
        if self._admission.knows_digest(ref):
            await self._admission.check(ref)
            await self._fetcher.ensure(ref, progress=progress)
        else:
            await self._fetcher.ensure(ref, progress=progress)
            await self._admission.check(ref)
