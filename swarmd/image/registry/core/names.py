"""Where an image is asked for: which hosts, in which order, by which scheme.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

import msgspec

from swarmd.model.errors import Invalid
from swarmd.model.image_ref import DEFAULT_DOMAIN, ImageRef

HUB = "registry-1.docker.io"
"""What answers for names of ``docker.io``."""


class Settings(msgspec.Struct, frozen=True):
    """``mirrors``: by the host of a name, what is asked first.  ``insecure``: hosts, ``host:port`` or
    networks whose certificate is not looked at, and which may speak plain HTTP.  ``ca``: a directory with
    one below it for each ``host:port``, of ``*.crt`` to trust and ``*.cert`` with ``*.key`` to show.
    """

    mirrors: Mapping[str, tuple[str, ...]] = {}
    insecure: tuple[str, ...] = ()
    ca: str = ""


class Way(msgspec.Struct, frozen=True):
    """A way to a host: the scheme, and whether its certificate must be good."""

    scheme: str
    verify: bool = True


class Place(msgspec.Struct, frozen=True):
    """A repository somewhere.  ``namespace``: for a mirror, the host that it stands for."""

    host: str
    repository: str
    ways: tuple[Way, ...]
    namespace: str = ""

    def url(self, way: Way, path: str) -> str:
        """Where ``path`` below the repository is, with the query that names what a mirror stands for."""
        query = f"{'&' if '?' in path else '?'}ns={self.namespace}" if self.namespace else ""
        base = f"{self.repository}/" if self.repository else ""
        return f"{way.scheme}://{self.host}/v2/{base}{path}{query}"


def host_of(domain: str) -> str:
    """The host that answers for the names of ``domain``."""
    return HUB if domain == DEFAULT_DOMAIN else domain


def account_of(host: str) -> str:
    """Under which name a user logs in to ``host``."""
    return DEFAULT_DOMAIN if host in (HUB, "index.docker.io") else host


def places(ref: ImageRef, settings: Settings) -> tuple[Place, ...]:
    """The mirrors of an image's host in their order, then the host itself, which is last.

    Raises Invalid for a mirror that is no address.
    """
    domain, _, repository = ref.name.partition("/")
    mirrors = [_mirror(text, domain, repository, settings) for text in settings.mirrors.get(domain, ())]
    return (*mirrors, origin(ref, settings))


def origin(ref: ImageRef, settings: Settings) -> Place:
    """The repository itself: where is pushed to."""
    domain, _, repository = ref.name.partition("/")
    host = host_of(domain)
    return Place(host, repository, ways(host, settings.insecure))


def ways(host: str, insecure: tuple[str, ...]) -> tuple[Way, ...]:
    """How to speak to a host, best first.  Loopback is insecure, as it is to Docker."""
    if not is_insecure(host, insecure):
        return (Way("https"),)
    return Way("https", verify=False), Way("http", verify=False)


def is_insecure(host: str, listed: tuple[str, ...]) -> bool:
    """Whether the host's certificate does not matter."""
    bare = without_port(host)
    if bare == "localhost" or host in listed or bare in listed:
        return True
    try:
        address = ipaddress.ip_address(bare.strip("[]"))
    except ValueError:
        return False
    return address.is_loopback or any(_holds(entry, address) for entry in listed)


def without_port(host: str) -> str:
    """``host`` of ``host:port``; an IPv6 address keeps its brackets."""
    head, colon, tail = host.rpartition(":")
    return head if colon and tail.isdecimal() and not head.endswith(":") else host


def _holds(entry: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _mirror(text: str, domain: str, repository: str, settings: Settings) -> Place:
    scheme, found, rest = text.rpartition("://")
    host, _, prefix = rest.strip("/").partition("/")
    if not host or (found and scheme not in ("http", "https")):
        raise Invalid(
            f'registry.mirrors of {domain}: "{text}" is no address: write host:port or https://host'
        )
    known = ways(host, settings.insecure)
    if scheme:
        known = tuple(way for way in known if way.scheme == scheme) or (Way(scheme, verify=False),)
    path = f"{prefix}/{repository}" if prefix else repository
    return Place(host, path, known, namespace=domain)
