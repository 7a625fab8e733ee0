"""Log-ins of this user to registries, kept as Docker keeps them: ``auths`` in ``config.json``, mode 0600.

Read: ours, then Docker's own file with its credential helpers.  Written: ours only.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from swarmd.cli.context import config_dir, read_settings, write_settings
from swarmd.cli.errors import CliError

if TYPE_CHECKING:
    from swarmd.rpc.v1 import registry_pb2

HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_SECONDS = 20


class Login(NamedTuple):
    """``identity_token``: instead of the password."""

    username: str = ""
    password: str = ""
    identity_token: str = ""


def settings_file() -> Path:
    """Where log-ins are kept."""
    return config_dir() / "config.json"


def host_of(text: str) -> str:
    """The host that a user or a file means: ``https://Registry.example.com/v1/`` is registry.example.com."""
    host = text.strip().removeprefix("https://").removeprefix("http://").partition("/")[0].lower()
    return HUB if host in ("", HUB, "index.docker.io", "registry-1.docker.io") else host


def host_of_image(ref: str) -> str:
    """The host in the name of an image.  Raises CliError for what is no name."""
    from swarmd.model import image_ref
    from swarmd.model.errors import Invalid

    try:
        return image_ref.parse(ref).name.partition("/")[0]
    except Invalid as error:
        raise CliError(str(error)) from None


def save(host: str, login: Login) -> None:
    """From now on that one.  Raises CliError."""
    path = settings_file()
    settings = read_settings(path)
    auths = dict(settings.get("auths") or {})
    secret = f"{login.username}:{login.password}".encode()
    entry = {"auth": base64.b64encode(secret).decode()}
    if login.identity_token:
        entry = {
            "auth": base64.b64encode(f"{login.username}:".encode()).decode(),
            "identitytoken": login.identity_token,
        }
    auths[_key(host)] = entry
    write_settings(path, {**settings, "auths": auths})


def forget(host: str) -> bool:
    """Whether there was one."""
    path = settings_file()
    settings = read_settings(path)
    auths = dict(settings.get("auths") or {})
    kept = {key: entry for key, entry in auths.items() if host_of(key) != host}
    if kept == auths:
        return False
    write_settings(path, {**settings, "auths": kept})
    return True


def find(host: str, environ: Mapping[str, str] | None = None) -> Login | None:
    """The log-in for a host; None when there is none."""
    for path in _files(os.environ if environ is None else environ):
        found = _in_file(read_settings(path), host)
        if found is not None:
            return found
    return None


def are_any() -> bool:
    """Whether this user has, or some helper may have, a log-in at all."""
    return any(
        settings.get(name)
        for settings in map(read_settings, _files(os.environ))
        for name in ("auths", "credHelpers", "credsStore")
    )


def as_messages(host: str) -> list[registry_pb2.RegistryLogin]:
    """The log-in for a host in the form that requests carry; none when there is none."""
    from swarmd.rpc.v1 import registry_pb2

    found = find(host)
    return [registry_pb2.RegistryLogin(host=host, **found._asdict())] if found is not None else []


def _files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    docker = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    return settings_file(), docker


def _in_file(settings: Mapping[str, Any], host: str) -> Login | None:
    helper = (settings.get("credHelpers") or {}).get(_key(host)) or settings.get("credsStore")
    if isinstance(helper, str):
        told = _from_helper(helper, _key(host))
        if told is not None:
            return told
    for key, entry in (settings.get("auths") or {}).items():
        if host_of(str(key)) == host and isinstance(entry, dict):
            return _login(entry)
    return None


def _login(entry: Mapping[str, Any]) -> Login | None:
    try:
        text = base64.b64decode(str(entry.get("auth", "")), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    username, _, password = text.rstrip("\0").partition(":")
    token = str(entry.get("identitytoken", ""))
    return Login(username, password, token) if (username and password) or token else None


def _from_helper(name: str, key: str) -> Login | None:
    """What the program ``docker-credential-<name>`` knows; None when it knows nothing or is not there."""
    if not name.replace("-", "").replace("_", "").isalnum():
        return None
    import json
    import subprocess

    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"],
            input=key.encode(),
            capture_output=True,
            timeout=_HELPER_SECONDS,
            check=True,
        )
        told = json.loads(done.stdout)
        username, secret = str(told["Username"]), str(told["Secret"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
    return Login(identity_token=secret) if username == "<token>" else Login(username, secret)


def _key(host: str) -> str:
    return _HUB_KEY if host == HUB else host
