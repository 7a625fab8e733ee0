"""The image configuration document: read from images, written for imports, commits and builds.

Pure.  The image's id is the SHA-256 of these bytes, so they are stored as they came and only read.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from swarmd.image.core.manifest import Sha256
from swarmd.model.errors import Invalid

MAX_CONFIG = 8 << 20


class Healthcheck(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """How the image says it is to be probed.  Times in nanoseconds; 0 means the default."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class _Run(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    user: str = ""
    exposed_ports: dict[str, msgspec.Raw] | None = None
    env: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: dict[str, msgspec.Raw] | None = None
    working_dir: str = ""
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] | None = None


class _Rootfs(msgspec.Struct, frozen=True):
    type: str
    diff_ids: tuple[Sha256, ...] = ()


class _History(msgspec.Struct, frozen=True, omit_defaults=True):
    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class _Document(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str
    os: str
    rootfs: _Rootfs
    created: str | None = None
    author: str | None = None
    config: _Run | None = None
    history: tuple[_History, ...] | None = None
    variant: str | None = None


class History(msgspec.Struct, frozen=True):
    """How one layer came about; ``empty_layer``: a step that made none.  Seconds since 1970, 0 unknown."""

    created: float = 0.0
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(msgspec.Struct, frozen=True):
    """What an image asks for when it runs.  Empty means it does not say.

    ``shell`` and ``onbuild`` are for builds on top of it: what runs shell forms, and what to begin with.
    """

    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    volumes: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    onbuild: tuple[str, ...] = ()


class ConfigDocument(msgspec.Struct, frozen=True):
    """A configuration read: how to run it, its layers' diffIDs bottom first, seconds since 1970.

    ``platform``: ``os/architecture``, and ``/variant`` where there is one.
    """

    run: ImageConfig
    diff_ids: tuple[str, ...]
    created: float
    platform: str
    history: tuple[History, ...] = ()
    author: str = ""


def read_config(raw: bytes) -> ConfigDocument:
    """Parse configuration bytes; raises :class:`Invalid` when they are none."""
    try:
        found = msgspec.json.decode(raw, type=_Document)
    except msgspec.MsgspecError as error:
        raise Invalid(f"the image's configuration cannot be read: {error}") from error
    if found.rootfs.type != "layers":
        raise Invalid(f"the image's root file system is of type {found.rootfs.type!r}; only layers are known")
    return ConfigDocument(
        run=_settings(found.config or _Run()),
        diff_ids=found.rootfs.diff_ids,
        created=_seconds(found.created or ""),
        platform=f"{found.os}/{found.architecture}" + (f"/{found.variant}" if found.variant else ""),
        history=tuple(_history(each) for each in found.history or ()),
        author=found.author or "",
    )


def write_config(
    run: ImageConfig,
    *,
    diff_ids: tuple[str, ...],
    created: float,
    arch: str,
    history: tuple[History, ...] = (),
    author: str = "",
    variant: str = "",
) -> bytes:
    """The bytes of a new configuration; equal input gives equal bytes.

    ``arch`` is GOARCH.  Raises :class:`Invalid` when ``history`` tells of another number of layers.
    """
    told = sum(not each.empty_layer for each in history)
    if history and told != len(diff_ids):
        raise Invalid(f"the image's history tells of {told} layers, but it has {len(diff_ids)}")
    return msgspec.json.encode(
        _Document(
            architecture=arch,
            os="linux",
            rootfs=_Rootfs("layers", diff_ids),
            created=_stamp(created),
            author=author or None,
            config=_as_written(run),
            history=tuple(
                _History(_stamp(each.created), each.created_by, each.author, each.comment, each.empty_layer)
                for each in history
            ),
            variant=variant or None,
        )
    )


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _history(found: _History) -> History:
    return History(
        _seconds(found.created or ""), found.created_by, found.author, found.comment, found.empty_layer
    )


def linux_platform(text: str) -> tuple[str, str]:
    """(architecture, variant) of ``linux/arm64/v8``; raises :class:`Invalid`."""
    system, _, rest = text.lower().partition("/")
    arch, _, variant = rest.partition("/")
    if system != "linux" or not arch or "/" in variant:
        raise Invalid(f'"{text}": no platform for an image here; write linux/amd64 or linux/arm64/v8')
    return arch, variant


def _settings(run: _Run) -> ImageConfig:
    return ImageConfig(
        env=run.env or (),
        cmd=run.cmd or (),
        entrypoint=run.entrypoint or (),
        user=run.user,
        workdir=run.working_dir,
        stop_signal=run.stop_signal,
        exposed_ports=tuple(sorted(run.exposed_ports or {})),
        labels=run.labels or {},
        volumes=tuple(sorted(run.volumes or {})),
        healthcheck=run.healthcheck,
        shell=run.shell or (),
        onbuild=run.on_build or (),
    )


def _as_written(run: ImageConfig) -> _Run:
    empty = msgspec.Raw(b"{}")
    return _Run(
        user=run.user,
        exposed_ports=dict.fromkeys(run.exposed_ports, empty) or None,
        env=run.env or None,
        entrypoint=run.entrypoint or None,
        cmd=run.cmd or None,
        volumes=dict.fromkeys(run.volumes, empty) or None,
        working_dir=run.workdir,
        labels=run.labels or None,
        stop_signal=run.stop_signal,
        healthcheck=run.healthcheck,
        shell=run.shell or None,
        on_build=run.onbuild or None,
    )


def _seconds(stamp: str) -> float:
    """An RFC 3339 time as seconds since 1970; 0 when absent or unreadable (it is only shown)."""
    head, dot, tail = stamp.partition(".")
    digits = len(tail) - len(tail.lstrip("0123456789"))
    # Go writes nanoseconds; fromisoformat takes six digits.
    text = f"{head}.{tail[:digits][:6].ljust(6, '0')}{tail[digits:]}" if dot else stamp
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
