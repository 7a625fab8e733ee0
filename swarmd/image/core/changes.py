"""``image import --change``: a few Dockerfile instructions applied to a configuration.  Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import msgspec

from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SHELL = ("/bin/sh", "-c")


def apply_changes(config: ImageConfig, changes: tuple[str, ...]) -> ImageConfig:
    """``config`` after each instruction in turn; raises :class:`Invalid` naming the bad one."""
    for change in changes:
        word, _, rest = change.strip().partition(" ")
        act = _ACTS.get(word.upper())
        if act is None:
            raise Invalid(f"{word or change!r} is not a valid change command; use one of {', '.join(_ACTS)}")
        if not rest.strip():
            raise Invalid(f"change {change!r}: {word.upper()} requires an argument")
        config = act(config, rest.strip())
    return config


def _command(text: str) -> tuple[str, ...]:
    """The exec form (a JSON array of strings) or, failing that, the shell form."""
    try:
        return msgspec.json.decode(text, type=tuple[str, ...])
    except msgspec.MsgspecError:
        return (*_SHELL, text)


def _words(text: str, what: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Invalid(f"change {what} {text}: {error}") from error


def _pairs(text: str, what: str) -> list[tuple[str, str]]:
    """``k=v k2="v w"``, or the old form ``k everything else``."""
    words = _words(text, what)
    if "=" not in words[0]:
        key, _, value = text.partition(" ")
        if not value.strip():
            raise Invalid(f"change {what} {text}: {what} must have two arguments, or be written name=value")
        return [(key, value.strip())]
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise Invalid(f"change {what} {text}: {word!r} is not of the form name=value")
        pairs.append((key, value))
    return pairs


def _env(config: ImageConfig, text: str) -> ImageConfig:
    env = dict(entry.split("=", 1) for entry in config.env if "=" in entry)
    env.update(_pairs(text, "ENV"))
    return msgspec.structs.replace(config, env=tuple(f"{key}={value}" for key, value in env.items()))


def _label(config: ImageConfig, text: str) -> ImageConfig:
    return msgspec.structs.replace(config, labels=config.labels | dict(_pairs(text, "LABEL")))


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    ports = set(config.exposed_ports)
    for word in _words(text, "EXPOSE"):
        match = _PORT.fullmatch(word)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if match is None or not 0 < first <= last <= 65535:
            raise Invalid(f"change EXPOSE {word}: invalid containerPort; write 80, 80/udp or 8000-8010/tcp")
        ports.update(f"{port}/{(match[3] or 'tcp').lower()}" for port in range(first, last + 1))
    return msgspec.structs.replace(config, exposed_ports=tuple(sorted(ports)))


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    paths = _command(text) if text.startswith("[") else tuple(_words(text, "VOLUME"))
    return msgspec.structs.replace(config, volumes=tuple(sorted({*config.volumes, *paths})))


def _onbuild(config: ImageConfig, text: str) -> ImageConfig:
    word = text.partition(" ")[0].upper()
    if word in ("ONBUILD", "FROM", "MAINTAINER"):
        raise Invalid(f"change ONBUILD {text}: {word} isn't allowed as an ONBUILD trigger")
    return msgspec.structs.replace(config, onbuild=(*config.onbuild, text))


def _workdir(config: ImageConfig, text: str) -> ImageConfig:
    path = text if text.startswith("/") else f"{config.workdir.rstrip('/')}/{text}"
    return msgspec.structs.replace(config, workdir=path)


_ACTS: dict[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": lambda config, text: msgspec.structs.replace(config, cmd=_command(text)),
    "ENTRYPOINT": lambda config, text: msgspec.structs.replace(config, entrypoint=_command(text)),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": lambda config, text: msgspec.structs.replace(config, stop_signal=text),
    "USER": lambda config, text: msgspec.structs.replace(config, user=text),
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
