"""Which proxy a request goes through: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY`` as Go has them.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> str:
    """The proxy's address, "" for none.  This machine itself is never asked through one."""
    proxy = _said(environ, f"{scheme}_proxy")
    if not proxy or _is_here(host) or _is_excepted(host, port, _said(environ, "no_proxy")):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _said(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name.upper()) or environ.get(name, "")


def _is_here(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    address = _address(host)
    for text in exceptions.split(","):
        one = text.strip().lower()
        name, colon, number = one.rpartition(":")
        if colon and number.isdecimal() and ":" not in name.strip("[]"):
            if int(number) != port:
                continue
            one = name
        if one == "*" or (one and _fits(host.lower(), address, one.strip("[]"))):
            return True
    return False


def _fits(host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, one: str) -> bool:
    """A network or address; ``example.com``: that and all below it; ``.example.com``: only those below."""
    if address is not None:
        try:
            return address in ipaddress.ip_network(one, strict=False)
        except ValueError:
            return False
    suffix = one.removeprefix("*")
    return host.endswith(suffix if suffix.startswith(".") else f".{suffix}") or host == suffix


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
