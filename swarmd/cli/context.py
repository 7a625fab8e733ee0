"""Named daemons (contexts): where they are stored and which one a command talks to.

Layout below ``~/.swarmctl`` (``SWARMCTL_CONFIG`` names another directory):
``config.json`` holds the current context, ``contexts/meta/<sha256 of name>/meta.json`` one context each.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from swarmd.cli.errors import CliError

DEFAULT = "default"
DEFAULT_HOST = "unix:///run/swarmd/swarmd.sock"
DEFAULT_DESCRIPTION = "Current SWARMCTL_HOST based configuration"
_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+"


class Context(NamedTuple):
    """A daemon with a name; ``host`` is a ``unix:///path`` address."""

    name: str
    host: str
    description: str = ""


def config_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The directory of all settings of this user."""
    environ = os.environ if environ is None else environ
    return Path(environ.get("SWARMCTL_CONFIG") or Path.home() / ".swarmctl")


def save_context(name: str, host: str, description: str = "") -> None:
    """Create or overwrite a context.  Raises CliError for a bad name or address."""
    check_name(name)
    check_host(host)
    meta = {
        "Name": name,
        "Metadata": {"Description": description},
        "Endpoints": {"swarmd": {"Host": host}},
    }
    write_settings(_meta_file(name), meta)


def remove_context(name: str) -> None:
    """Forget a context; the current one falls back to ``default``.  Raises CliError when there is none."""
    path = _meta_file(name)
    if name == DEFAULT or not path.exists():
        raise CliError(f'context "{name}" does not exist')
    path.unlink()
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    if current_context() == name:
        use_context(DEFAULT)


def get_context(name: str, environ: Mapping[str, str] | None = None) -> Context:
    """The context of that name.  Raises CliError when there is none or its file is damaged."""
    environ = os.environ if environ is None else environ
    if name == DEFAULT:
        host = environ.get("SWARMCTL_HOST") or DEFAULT_HOST
        return Context(DEFAULT, host, DEFAULT_DESCRIPTION)
    path = _meta_file(name)
    if not path.exists():
        raise CliError(f'context "{name}" does not exist; see `swarmctl context ls`')
    return _read_context(path)


def list_contexts() -> list[Context]:
    """``default`` first, then every stored context by name."""
    found = [_read_context(path) for path in (config_dir() / "contexts" / "meta").glob("*/meta.json")]
    return [get_context(DEFAULT), *sorted(found)]


def current_context() -> str:
    """The context chosen with ``context use``, or ``default``."""
    return str(read_settings(config_dir() / "config.json").get("currentContext") or DEFAULT)


def use_context(name: str) -> None:
    """Make a context the current one.  Raises CliError when it does not exist."""
    get_context(name)
    path = config_dir() / "config.json"
    settings = read_settings(path)
    settings.pop("currentContext", None)
    if name != DEFAULT:
        settings["currentContext"] = name
    write_settings(path, settings)


def storage_path(name: str) -> str:
    """Where a context is stored; ``<IN MEMORY>`` for the default one."""
    return "<IN MEMORY>" if name == DEFAULT else str(_meta_file(name).parent)


def resolve_name(context: str | None, host: str | None, environ: Mapping[str, str]) -> str:
    """Which context counts: --context, --host, SWARMCTL_HOST, SWARMCTL_CONTEXT, the current one."""
    if context:
        return context
    if host or environ.get("SWARMCTL_HOST"):
        return DEFAULT
    return environ.get("SWARMCTL_CONTEXT") or current_context()


def resolve_host(context: str | None, host: str | None, environ: Mapping[str, str] | None = None) -> str:
    """The address to connect to.  Raises CliError for an unknown context or a bad address."""
    environ = os.environ if environ is None else environ
    name = resolve_name(context, host, environ)
    chosen = host if host and not context else get_context(name, environ).host
    check_host(chosen)
    return chosen


def check_name(name: str) -> None:
    """Raises CliError unless ``name`` may be the name of a stored context."""
    if name == DEFAULT:
        raise CliError('"default" is a reserved context name')
    if not re.fullmatch(_NAME, name):
        raise CliError(
            f'context name "{name}" is invalid: names are two or more of [a-zA-Z0-9_.+-] '
            "and start with a letter or digit"
        )


def check_host(host: str) -> None:
    """Raises CliError unless ``host`` is a ``unix:///absolute/path`` address."""
    if not host.startswith("unix:///") or host == "unix:///":
        raise CliError(f'invalid host "{host}": give the path of the daemon\'s socket as unix:///path')


def _meta_file(name: str) -> Path:
    import hashlib

    digest = hashlib.sha256(name.encode()).hexdigest()
    return config_dir() / "contexts" / "meta" / digest / "meta.json"


def _read_context(path: Path) -> Context:
    meta = read_settings(path)
    try:
        return Context(
            meta["Name"], meta["Endpoints"]["swarmd"]["Host"], meta["Metadata"].get("Description", "")
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CliError(f"context file {path} lacks {error}: remove its directory") from error


def read_settings(path: Path) -> dict[str, Any]:
    """A file of settings; empty when there is none.  Raises CliError when it is damaged."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CliError(f"cannot read {path}: {error}") from error
    import json

    try:
        data = json.loads(text)
    except ValueError as error:
        raise CliError(f"cannot read {path}: {error}") from error
    if not isinstance(data, dict):
        raise CliError(f"cannot read {path}: a JSON object was expected")
    return data


def write_settings(path: Path, data: Mapping[str, Any]) -> None:
    """Whole or not at all: a crash leaves the old file."""
    import json
    import tempfile

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(data, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
