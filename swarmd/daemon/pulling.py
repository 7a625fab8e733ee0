"""The node's way to registries: for users of its socket, for its tasks, and on the leader for new services.

credential: what the user sent ──► the swarm's: own store (managers), the leader (workers) ──► a stranger
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import grpc
import structlog

from swarmd.api.registry import RegistryServer
from swarmd.daemon.config import Config
from swarmd.daemon.member import Member
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.image.core.catalog import ImageInfo
from swarmd.image.port import Progress
from swarmd.image.registry.client import RegistryClient
from swarmd.image.registry.core.auth import Credential
from swarmd.image.registry.core.names import Settings
from swarmd.image.registry.hints import Hints
from swarmd.image.registry.http_client import Unreachable
from swarmd.image.registry.remote import WhoAsks
from swarmd.image.store import ImageStore
from swarmd.image.trust import fetching
from swarmd.image.trust.core.artifact import Signature
from swarmd.kit.clock import Clock
from swarmd.kit.supervise import Nursery, Report
from swarmd.model import image_ref
from swarmd.model.errors import Denied, Invalid, NotFound, SwarmError, Unavailable
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import RegistryCredential
from swarmd.rpc import codec, errors
from swarmd.rpc.v1 import agent_pb2, agent_pb2_grpc, registry_pb2_grpc


class Registries:
    """``member``: this node's part in a swarm, while it has one."""

    def __init__(
        self,
        config: Config,
        images: ImageStore,
        clock: Clock,
        member: Callable[[], Member | None],
        changed: Callable[[], None],
        report: Report,
    ) -> None:
        """``changed``: told when there are other images here."""
        self._images = images
        self._member = member
        self._changed = changed
        self._nursery = Nursery(report)
        self._log = structlog.get_logger()
        hints = Hints(config.data / "registry-hints.json")
        self.client = RegistryClient(
            images, settings(config.registry), clock, who=self._swarm_login, hints=hints
        )
        self.origin = Origin(self.client, changed)
        # What this node's own registry reads others with: a mirror may be that registry itself.
        direct = Settings(insecure=config.registry.insecure, ca=config.registry.ca)
        self.upstream = RegistryClient(images, direct, clock, who=self._swarm_login)

    def serve(self, server: grpc.aio.Server) -> None:
        """Add the Registry service to the daemon's socket."""
        registry_pb2_grpc.add_RegistryServicer_to_server(RegistryServer(self, self._nursery), server)

    async def close(self) -> None:
        """Transfers end; what is here of them stays for the next try."""
        await self._nursery.close()
        await self.client.close()
        await self.upstream.close()

    # -- for users -------------------------------------------------------------------------------

    async def pull(
        self,
        ref: str,
        *,
        platform: str,
        all_tags: bool,
        needed: bool,
        logins: Mapping[str, Credential],
        progress: Progress,
    ) -> None:
        """Have an image here, or all of a repository; ``needed``: from anywhere.  Raises SwarmError."""
        if needed and not all_tags and not platform:
            await self.fetched(ref, platform=platform, newest=False, logins=logins, progress=progress)
            return
        who = self._login_of(logins)
        wanted = image_ref.parse(ref)
        refs = [wanted]
        if all_tags:
            _check_all_tags(ref)
            refs = [ImageRef(wanted.name, tag) for tag in await self.client.tags(wanted, who=who)]
        for each in refs:
            await self.client.pull(each, progress=progress, platform=platform, who=who)
            self._changed()

    async def push(
        self, ref: str, *, all_tags: bool, logins: Mapping[str, Credential], progress: Progress
    ) -> None:
        """Give an image, or all of a repository that are here, to its registry.  Raises SwarmError."""
        who = self._login_of(logins)
        if not all_tags:
            await self.client.push(ref, progress=progress, who=who)
            return
        _check_all_tags(ref)
        wanted = image_ref.parse(ref)
        held = [image_ref.parse(name) for image in self._images.list() for name in image.refs]
        found = sorted((one.tag, one) for one in held if one.name == wanted.name and not one.digest)
        if not found:
            raise NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name()}")
        for _, one in found:
            await self.client.push(one, progress=progress, who=who)

    async def check(self, host: str, login: Credential) -> str:
        """See :meth:`RegistryClient.check`."""
        return await self.client.check(host, login)

    async def fetched(
        self, ref: str, *, platform: str, newest: bool, logins: Mapping[str, Credential], progress: Progress
    ) -> ImageInfo:
        """An image to run or to build on: of another node of the swarm, if this one lacks it and it need not
        be the ``newest``, else as its registry has it now.  Raises SwarmError."""
        member = self._member()
        if member is not None and not newest and not self._has(ref):
            try:
                await member.working.fetcher.ensure(ref, progress=progress)
                return self._images.resolve(ref)
            except (NotFound, Denied, Unavailable):
                pass  # the user's own log-in may help
        who = self._login_of(logins)
        info = await self.client.pull(ref, progress=progress, platform=platform, who=who)
        self._changed()
        return info

    # -- for tasks and services ------------------------------------------------------------------

    async def digest(self, ref: ImageRef) -> str:
        """What a name means at its registry now.  Raises SwarmError."""
        return (await self.client.resolve(ref)).digest

    async def signatures(self, ref: ImageRef) -> tuple[Signature, ...]:
        """Those of an image that its registry has.  Raises SwarmError."""
        return await fetching.signatures(self.client, ref)

    def _has(self, ref: str) -> bool:
        try:
            self._images.resolve(ref)
        except NotFound:
            return False
        return True

    # -- who asks --------------------------------------------------------------------------------

    def _login_of(self, logins: Mapping[str, Credential]) -> WhoAsks:
        async def who(host: str) -> Credential | None:
            return logins.get(host) or await self._swarm_login(host)

        return who

    async def _swarm_login(self, host: str) -> Credential | None:
        member = self._member()
        if member is None:
            return None
        if member.managing is not None:
            row = member.managing.store.get(RegistryCredential, host)
            return Credential(row.username, row.password, row.identity_token) if row is not None else None
        try:
            stub = agent_pb2_grpc.DispatcherStub(member.working.session.leader_channel())
            with errors.calling():
                answer = await stub.GetRegistryLogin(agent_pb2.GetRegistryLoginRequest(host=host), timeout=5)
        except SwarmError as error:
            self._log.info("registry_login_not_told", host=host, reason=str(error))
            return None
        return codec.from_proto(Credential, answer.login) if answer.HasField("login") else None


class Origin:
    """Registries as the images of tasks come from them."""

    def __init__(self, client: RegistryClient, changed: Callable[[], None]) -> None:
        self._client = client
        self._changed = changed
        self._log = structlog.get_logger()

    async def pull(self, ref: str, *, progress: Progress) -> None:
        """Have the image here.

        Raises NotFound ("No such image: X") also when its registry cannot be reached at all, Denied, Invalid,
        and Unavailable for what may work in a moment.
        """
        try:
            await self._client.pull(ref, progress=progress)
        except (NotFound, Unreachable) as error:
            raise NotFound(f"No such image: {image_ref.parse(ref).familiar()} ({error})") from error
        self._changed()
        self._log.info("image_pulled", image=ref)


def settings(config: RegistryConfig) -> Settings:
    """The part of the settings that a client of registries needs."""
    return Settings(mirrors=config.mirrors, insecure=config.insecure, ca=config.ca)


def _check_all_tags(ref: str) -> None:
    head, at, _ = ref.partition("@")
    if at or ":" in head.rpartition("/")[2]:
        raise Invalid("tag can't be used with --all-tags/-a")
