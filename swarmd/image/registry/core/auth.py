"""Who asks: credentials, the request for a token, and the tokens there are.  Pure.

401 ──► challenge ──► basic:  the credential with every request
                  ──► bearer: scopes ──► a token that is good for all of them, or a request for one
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from swarmd.image.registry.core.challenge import Challenge
from swarmd.model.errors import Denied, Invalid

CLIENT = "swarmd"
LEAST_LIFE = 60.0
"""Seconds a token is good for, at least and when nothing is said."""

MARGIN = 5.0
"""Seconds before its end from which a token is not used any more."""

MAX_TOKEN = 1 << 20


class Credential(msgspec.Struct, frozen=True):
    """How to log in.  ``identity_token``: instead of the password, from a registry that gave one."""

    username: str = ""
    password: str = ""
    identity_token: str = ""

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class TokenRequest(msgspec.Struct, frozen=True):
    """``body``: a form to be posted, or None to get ``url``.  ``authorization``: "" for a stranger."""

    url: str
    body: bytes | None = None
    authorization: str = ""


class Token(msgspec.Struct, frozen=True):
    """``until``: by the clock that only goes forward, after which it is not to be used."""

    text: str
    scopes: frozenset[str]
    until: float
    refresh: str = ""


class _Answer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: float = 0.0
    issued_at: str = ""
    refresh_token: str = ""


def scope(repository: str, *actions: str) -> str:
    """``repository:<name>:pull,push``."""
    return f"repository:{repository}:{','.join(actions)}"


def united(scopes: Iterable[str]) -> frozenset[str]:
    """One scope for each resource, with all its actions."""
    actions: dict[str, set[str]] = {}
    for each in scopes:
        resource, _, wanted = each.rpartition(":")
        actions.setdefault(resource, set()).update(wanted.split(","))
    return frozenset(f"{resource}:{','.join(sorted(wanted))}" for resource, wanted in actions.items())


def covers(have: frozenset[str], wanted: Iterable[str]) -> bool:
    """Whether what a token was asked for includes ``wanted``."""
    return united((*have, *wanted)) == united(have)


def token_request(
    challenge: Challenge, scopes: frozenset[str], who: Credential | None, *, offline: bool = False
) -> TokenRequest:
    """What to ask the token server.  ``offline``: also for a token that lasts, which a log-in keeps.

    Raises Invalid for a token server that is no address.
    """
    realm, service = challenge.values["realm"], challenge.values.get("service", "")
    if urlsplit(realm).scheme not in ("http", "https"):
        raise Invalid(f"the registry names a token server that is no address: {realm[:200]}")
    if who is not None and who.identity_token:
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT,
            "scope": " ".join(sorted(scopes)),
            "refresh_token": who.identity_token,
        }
        return TokenRequest(realm, urlencode(form).encode())
    pairs = [("service", service)] if service else []
    pairs += [("scope", each) for each in sorted(scopes)]
    if who is not None and who.username:
        pairs.append(("account", who.username))
    if offline:
        pairs += [("offline_token", "true"), ("client_id", CLIENT)]
    query = urlencode(pairs, quote_via=quote, safe=":/,")
    join = "&" if urlsplit(realm).query else "?"
    url = f"{realm}{join}{query}" if query else realm
    return TokenRequest(url, authorization=who.basic() if who is not None and who.username else "")


def may_tell(request: TokenRequest, *, secure: bool, insecure_host: bool) -> None:
    """Raises Denied when a secret would leave this machine unsealed.

    ``secure``: the registry itself is spoken to by TLS.  ``insecure_host``: the settings let the token server
    speak plainly.
    """
    tells = bool(request.authorization or request.body)
    if tells and secure and urlsplit(request.url).scheme == "http" and not insecure_host:
        raise Denied(
            f"the registry wants the password sent to {urlsplit(request.url).netloc} without TLS: "
            "list that host in registry.insecure to allow it"
        )


def read_token(raw: bytes, scopes: frozenset[str], *, now: float, monotonic: float) -> Token:
    """The token in an answer; raises Invalid when there is none."""
    try:
        answer = msgspec.json.decode(raw, type=_Answer)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the registry's token server answers what is no token: {error}") from error
    text = answer.token or answer.access_token
    if not text or re.search(r"[^\x21-\x7e]", text):
        raise Invalid("the registry's token server answers without a token")
    life = max(answer.expires_in, LEAST_LIFE)
    left = life - min(max(0.0, now - _seconds(answer.issued_at, now)), life)
    # A clock that is wrong must not make every token an old one.
    until = monotonic + max(left, LEAST_LIFE / 2) - MARGIN
    return Token(text, scopes, until, answer.refresh_token)


class Tokens:
    """Those of one token server and one user."""

    def __init__(self) -> None:
        self._held: list[Token] = []

    def find(self, scopes: Iterable[str], monotonic: float) -> Token | None:
        """One that is good for ``scopes``, still."""
        self._held = [token for token in self._held if token.until > monotonic]
        wanted = tuple(scopes)
        return next((token for token in self._held if covers(token.scopes, wanted)), None)

    def add(self, token: Token) -> None:
        """From now on that one."""
        self._held = [token, *(one for one in self._held if not covers(token.scopes, one.scopes))]

    def drop(self, text: str) -> None:
        """The registry does not take it."""
        self._held = [token for token in self._held if token.text != text]


def _seconds(stamp: str, default: float) -> float:
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", stamp)).timestamp()
    except ValueError:
        return default
