"""Decide whether published ports can be accepted, each on its own and together."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from swarmd.model.errors import Invalid
from swarmd.model.ports import clash
from swarmd.model.spec import PortSpec, ServiceSpec

_MAX_PORT = 65535
_MOST_PREFIXES = 256
_INTERFACE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,14}")
_PROTOCOLS = ("tcp", "udp", "sctp")
_SOURCES = ("", "keep", "masquerade", "proxy-protocol")


def port(spec: PortSpec) -> None:
    """Raises Invalid with the first thing that is wrong."""
    if spec.protocol not in _PROTOCOLS:
        raise Invalid(f'port protocol "{spec.protocol}" is not supported: use tcp, udp or sctp')
    if spec.mode not in ("ingress", "host"):
        raise Invalid(f'port mode "{spec.mode}" is not known: use ingress or host')
    if spec.mode == "host" and not spec.published:
        raise Invalid(
            f"target port {spec.target} is published in host mode without a port: "
            "write mode=host,published=PORT,target=PORT"
        )
    if not 1 <= spec.target <= _MAX_PORT:
        raise Invalid(f"invalid target port {spec.target}: it must be between 1 and {_MAX_PORT}")
    if not 0 <= spec.published <= _MAX_PORT:
        raise Invalid(f"invalid published port {spec.published}: it must be between 1 and {_MAX_PORT}")
    if spec.published_end:
        _range(spec)
    if spec.host_ip:
        _host(spec)
    _allow(spec)


def together(specs: Iterable[PortSpec]) -> None:
    """Raises Invalid when a service publishes one port twice."""
    seen: list[PortSpec] = []
    for spec in specs:
        if not spec.dynamic and any(clash(spec.key, one.key) for one in seen):
            raise Invalid(f"port {spec.published}/{spec.protocol} is published twice by this service")
        seen += [] if spec.dynamic else [spec]


def source(spec: ServiceSpec) -> None:
    """Raises Invalid for an ingress-source that is not known or that its ports cannot have."""
    if spec.ingress_source not in _SOURCES:
        raise Invalid(
            f'ingress-source "{spec.ingress_source}" is not known: use keep, masquerade or proxy-protocol'
        )
    if spec.ingress_source != "proxy-protocol":
        return
    for one in spec.ports:
        if one.protocol != "tcp":
            raise Invalid(
                f"ingress-source proxy-protocol is for tcp ports, and {one.target}/{one.protocol} is not "
                "one: publish it by another service"
            )


def _range(spec: PortSpec) -> None:
    if not 0 < spec.published < spec.published_end <= _MAX_PORT:
        raise Invalid(
            f"invalid range of published ports {spec.published}-{spec.published_end}: write the lower number "
            f"first, both between 1 and {_MAX_PORT}"
        )
    if spec.mode == "host":
        raise Invalid(
            f"target port {spec.target} is published in host mode on any of {spec.published}-"
            f"{spec.published_end}: only ingress ports are chosen from a range, write one number"
        )


def _host(spec: PortSpec) -> None:
    """An address is written as the kernel writes it, so that two services that mean the same are seen to."""
    try:
        address = ip_address(spec.host_ip)
    except ValueError:
        if _INTERFACE.fullmatch(spec.host_ip):
            return
        raise Invalid(
            f'host_ip "{spec.host_ip}" is neither an address nor the name of an interface'
        ) from None
    if address.is_unspecified:
        raise Invalid(f"host_ip {spec.host_ip} means every address: leave it out")
    if address.is_multicast or address.is_link_local:
        raise Invalid(f"host_ip {spec.host_ip} cannot be published on: give an address of the node")
    if str(address) != spec.host_ip:
        raise Invalid(f"host_ip {spec.host_ip} is written {address}")


def _allow(spec: PortSpec) -> None:
    if len(spec.allow) > _MOST_PREFIXES:
        raise Invalid(f"port {spec.target} allows {len(spec.allow)} prefixes; {_MOST_PREFIXES} are the most")
    for text in spec.allow:
        try:
            prefix = ip_network(text, strict=False)
        except ValueError:
            raise Invalid(f'allow "{text}" is not a prefix of addresses: write 10.0.0.0/8') from None
        if "/" in text and str(prefix) != text:
            raise Invalid(f"allow {text} is written {prefix}")
