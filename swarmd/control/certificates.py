"""The certificates that services' routes are served with: secrets, checked when a service refers to them."""

from __future__ import annotations

import datetime

from swarmd.control import lookup
from swarmd.model.errors import Invalid, NotFound, SwarmError
from swarmd.model.objects import Secret
from swarmd.model.spec import ServiceSpec
from swarmd.security import serving
from swarmd.store.core.transaction import Change, Put
from swarmd.store.store import Store

_SOON = 14 * 86400.0
"""Seconds before its end that a certificate is worth a word."""


def check(store: Store, spec: ServiceSpec, now: float) -> list[str]:
    """Raises NotFound for a secret that is not there, Invalid for one that is no certificate with its key.

    Answers warnings: hosts that a certificate does not name, and dates.
    """
    warnings: list[str] = []
    for port in spec.ports:
        if not port.tls:
            continue
        secret = lookup.secret(store, port.tls)
        if port.tls != secret.id and port.tls.lower() != secret.name.lower():
            raise NotFound(f"secret {port.tls} not found: write its name or its whole id")
        try:
            found = serving.read(secret.data)
        except SwarmError as error:
            raise Invalid(
                f"secret {secret.name} cannot serve TLS for {port.host or 'any host'}: {error}"
            ) from error
        warnings += _dates(secret.name, found, now)
        if port.host and not found.covers(port.host):
            warnings.append(
                f"the certificate in secret {secret.name} is for {', '.join(found.names) or 'no host'}, "
                f"not for {port.host}: clients will not accept it"
            )
    return list(dict.fromkeys(warnings))


def held(store: Store, spec: ServiceSpec) -> list[Change]:
    """Changes that fail if one of the secrets is removed meanwhile, and make its removal fail."""
    rows = {lookup.secret(store, port.tls).id for port in spec.ports if port.tls}
    found = (store.get(Secret, row_id) for row_id in sorted(rows))
    return [Put(row) for row in found if row is not None]


def _dates(name: str, found: serving.Serving, now: float) -> list[str]:
    if now > found.valid_until:
        return [f"the certificate in secret {name} has expired at {_day(found.valid_until)}"]
    if now < found.valid_from:
        return [f"the certificate in secret {name} is not valid before {_day(found.valid_from)}"]
    if now > found.valid_until - _SOON:
        return [f"the certificate in secret {name} expires at {_day(found.valid_until)}"]
    return []


def _day(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M} UTC"
