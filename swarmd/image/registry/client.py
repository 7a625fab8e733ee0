"""Images from and to registries: resolve, pull, push, log in, and what lies beside images there.

pull: mirrors, then the host ──► manifest or index ──► the platform's manifest ──► ``pull``
push: ``push``; a blob's way there: ``upload``, here: ``download``; one request: ``remote``
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from swarmd.image.core.catalog import ImageInfo
from swarmd.image.core.manifest import MAX_MANIFEST, Descriptor
from swarmd.image.kernel import goarch
from swarmd.image.port import Progress
from swarmd.image.registry import manifests
from swarmd.image.registry.core import auth, documents, errors, headers, names
from swarmd.image.registry.core.auth import Credential
from swarmd.image.registry.core.documents import Document, Entry, Wanted
from swarmd.image.registry.core.names import Place, Settings
from swarmd.image.registry.download import Downloads
from swarmd.image.registry.hints import Hints
from swarmd.image.registry.http_client import HttpClient
from swarmd.image.registry.pull import Found, Images, Pulls, silent
from swarmd.image.registry.push import Push
from swarmd.image.registry.remote import Remote, Surroundings, WhoAsks
from swarmd.image.registry.trust_files import TrustFiles
from swarmd.image.registry.upload import Uploads
from swarmd.kit.clock import Clock
from swarmd.kit.ids import random_fraction
from swarmd.model import image_ref
from swarmd.model.errors import Invalid, NotFound, SwarmError
from swarmd.model.image_ref import DEFAULT_TAG, ImageRef

_PAGES = 1000
Resolved = Document


async def nobody(host: str) -> Credential | None:
    """A stranger everywhere."""
    return None


class RegistryClient:
    """``who``: the credential for a host, unless a call brings its own.  :meth:`close` it in the end.

    Every call raises NotFound, Denied, Invalid for what is wrong or forged, Unavailable for what may work
    later.
    """

    def __init__(
        self,
        images: Images,
        settings: Settings,
        clock: Clock,
        *,
        who: WhoAsks = nobody,
        fraction: Callable[[], float] = random_fraction,
        hints: Hints | None = None,
    ) -> None:
        self._images = images
        self._settings = settings
        self._who = who
        self._hints = hints or Hints()
        http = HttpClient(TrustFiles(settings.ca).context)
        self._around = Surroundings(http, clock, fraction, settings.insecure, {})
        self._uploads = Uploads(images.content, self._around)
        self._downloads = Downloads(images.content, self._around, self._hints)
        self._pulls = Pulls(images, self._downloads)

    async def close(self) -> None:
        """Hang up."""
        await self._around.http.close()

    async def resolve(self, ref: str | ImageRef, *, who: WhoAsks | None = None) -> Resolved:
        """What the name means now, at the first of its mirrors that knows it or at its host."""
        return (await self._find(_parsed(ref), who, silent))[1]

    async def pull(
        self,
        ref: str | ImageRef,
        *,
        progress: Progress = silent,
        platform: str = "",
        who: WhoAsks | None = None,
    ) -> ImageInfo:
        """Have the image here under that name, unpacked.  ``platform``: ``os/arch[/variant]``."""
        wanted = _parsed(ref)
        asked = documents.read_wanted(platform, Wanted("linux", goarch()))
        before = self._held(wanted)
        remote, document = await self._find(wanted, who, progress)
        repository = wanted.name.partition("/")[2]
        progress(wanted.tag or wanted.digest, f"Pulling from {repository}")
        found = Found(wanted, document, await manifests.of_platform(remote, document, asked))
        info = await self._pulls.take(remote, found, asked if platform else None, progress)
        self._note(remote.place, found)
        progress("", f"Digest: {document.digest}")
        state = "Image is up to date" if before == info.digest else "Downloaded newer image"
        progress("", f"Status: {state} for {wanted.familiar()}")
        return info

    async def push(
        self, ref: str | ImageRef, *, progress: Progress = silent, who: WhoAsks | None = None
    ) -> str:
        """Give the image of that name to its registry; answers the digest of its manifest there."""
        wanted = _parsed(ref)
        remote = self._remote(names.origin(wanted, self._settings), who, progress)
        return await Push(self._images, remote, self._uploads, self._hints, progress).give(wanted)

    async def check(self, host: str, credential: Credential | None) -> str:
        """Whether a registry lets somebody in; answers the identity token it gives to keep, or ""."""

        async def who(_: str) -> Credential | None:
            return credential

        address = names.host_of(names.account_of(host))
        place = Place(address, "", names.ways(address, self._settings.insecure))
        remote = Remote(place, self._around, who, offline=True)
        reply = await remote.send("GET", "")
        if reply.status != 200:
            raise await remote.error(reply, f"login attempt to {host} failed")
        reply.release()
        return remote.refresh

    # -- what lies beside images -----------------------------------------------------------------

    async def tags(self, ref: str | ImageRef, *, who: WhoAsks | None = None) -> list[str]:
        """All tags of a repository."""
        remote = self._origin(ref, who)
        found: list[str] = []
        path = "tags/list"
        for _ in range(_PAGES):
            reply = await remote.send("GET", path, scopes=(_pulling(remote),))
            if reply.status != 200:
                body = await reply.start(errors.MAX_ERROR)
                reply.release()
                raise errors.manifest_failure(reply.status, body, _parsed(ref).familiar_name())
            found += documents.read_tags(await reply.read(MAX_MANIFEST))
            reply.release()
            path = headers.next_page(reply.headers("Link"), reply.url)
            if not path:
                break
        return found

    async def referrers(
        self, ref: str | ImageRef, digest: str, artifact_type: str = "", *, who: WhoAsks | None = None
    ) -> list[Entry]:
        """What is about that manifest, also where it is only known by a tag made of its digest."""
        remote = self._origin(ref, who)
        query = f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else ""
        reply = await remote.send("GET", f"referrers/{digest}{query}", scopes=(_pulling(remote),))
        if reply.status == 200:
            raw = await reply.read(MAX_MANIFEST)
            reply.release()
        else:
            reply.release()
            try:
                raw = (await manifests.get(remote, digest.replace(":", "-"), _parsed(ref).familiar())).raw
            except NotFound:
                return []
        return [one for one in documents.read_entries(raw) if artifact_type in ("", one.artifact_type)]

    async def get_manifest(
        self, ref: str | ImageRef, reference: str, *, who: WhoAsks | None = None
    ) -> tuple[str, bytes]:
        """(media type, exact bytes) of whatever lies under a tag or digest: it need not be an image."""
        remote = self._origin(ref, who)
        name = f"{_parsed(ref).familiar_name()}{'@' if ':' in reference else ':'}{reference}"
        media_type, raw, told = await manifests.get_raw(remote, reference, name)
        _check(raw, reference if ":" in reference else told, "manifest")
        return media_type, raw

    async def have_blob(self, ref: str | ImageRef, digest: str, *, who: WhoAsks | None = None) -> None:
        """Have one blob of a repository here; those who want the same one share the work."""
        remote = self._origin(ref, who)
        there = await remote.send("HEAD", f"blobs/{digest}", scopes=(_pulling(remote),))
        size = there.header("Content-Length")
        if there.status != 200 or not size.isdecimal():
            raise await remote.error(there, f"blob {digest}")
        there.release()
        await self._downloads.have(remote, Descriptor("", digest, int(size)), silent)

    async def get_blob(
        self, ref: str | ImageRef, digest: str, *, limit: int = MAX_MANIFEST, who: WhoAsks | None = None
    ) -> bytes:
        """A small blob, verified."""
        remote = self._origin(ref, who)
        reply = await remote.send("GET", f"blobs/{digest}", scopes=(_pulling(remote),))
        if reply.status != 200:
            raise await remote.error(reply, f"blob {digest}")
        try:
            raw = await reply.read(limit)
        finally:
            reply.release()
        _check(raw, digest, "blob")
        return raw

    # -- inside ----------------------------------------------------------------------------------

    async def _find(
        self, wanted: ImageRef, who: WhoAsks | None, progress: Progress
    ) -> tuple[Remote, Document]:
        """What the name means, and who said so.  A mirror that fails is passed over."""
        *mirrors, last = names.places(wanted, self._settings)
        reference = wanted.digest or wanted.tag or DEFAULT_TAG
        for place in mirrors:
            remote = self._remote(place, who, progress)
            try:
                return remote, await manifests.get(remote, reference, wanted.familiar())
            except SwarmError as error:
                progress("", f"Mirror {place.host} is passed over: {error}")
        remote = self._remote(last, who, progress)
        return remote, await manifests.get(remote, reference, wanted.familiar())

    def _held(self, ref: ImageRef) -> str:
        try:
            return self._images.resolve(ref.familiar()).digest
        except SwarmError:
            return ""

    def _note(self, place: Place, found: Found) -> None:
        """Where the layers are, for pushes that may mount them."""
        if not place.namespace:
            self._hints.found(documents.layers_of(found.manifest.raw), place.host, place.repository)

    def _origin(self, ref: str | ImageRef, who: WhoAsks | None) -> Remote:
        return self._remote(names.origin(_parsed(ref), self._settings), who, silent)

    def _remote(self, place: Place, who: WhoAsks | None, progress: Progress) -> Remote:
        def warned(text: str) -> None:
            progress("", f"Warning: {text}")

        return Remote(place, self._around, who or self._who, warned)


def _pulling(remote: Remote) -> str:
    return auth.scope(remote.place.repository, "pull")


def _parsed(ref: str | ImageRef) -> ImageRef:
    return image_ref.parse(ref) if isinstance(ref, str) else ref


def _check(raw: bytes, digest: str, what: str) -> None:
    if digest and documents.digest_of(raw, digest.partition(":")[0]) != digest:
        raise Invalid(f"{what} {digest} is not what was asked for: it is damaged or forged")
