"""Settings of one daemon: a TOML file, overridden by flags.  Unknown keys and wrong types are errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from swarmd.daemon.metrics_config import MetricsConfig
from swarmd.daemon.registry_config import RegistryConfig
from swarmd.model.errors import Invalid
from swarmd.node.containers.local import Allow
from swarmd.node.runtime.core.device_patterns import check_patterns

_LEAST_USERS, _LAST_USER = 65_536, 0xFFFFFFFE  # nobody is 65534


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Snapshots of the swarm that the leading manager makes by itself, below ``<data_dir>/backups``.

    Every ``interval_hours`` (0: never), of which the newest ``keep`` stay.  ``passphrase_file``: seal them.
    """

    interval_hours: Annotated[float, msgspec.Meta(ge=0.0)] = 12.0
    keep: Annotated[int, msgspec.Meta(ge=1)] = 5
    passphrase_file: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``data_dir`` survives reboots, ``run_dir`` need not.  ``labels``: engine labels of this node.

    ``reserve_mib``: with less free space in ``data_dir`` a manager takes no changes; by default 256 MiB or
    5 % of the file system, whichever is less; images leave twice as much.
    ``exec_allow``: who may exec, attach, copy and commit.
    ``device_allow``: patterns of the devices services may have.
    ``runtime``: what runs containers that name none: ``local``, ``crun``, ``runc`` or ``runsc``.
    ``http_access_log``: a line in the log for each request on a port that services share.
    ``userns_remap``: ``FIRST:SIZE``, the users of this machine that those of containers are; empty: the same.
    """

    data_dir: str = "/var/lib/swarmd"
    run_dir: str = "/run/swarmd"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_file: str = ""
    labels: dict[str, str] = {}
    socket_group: str = ""
    reserve_mib: Annotated[int, msgspec.Meta(ge=0)] | None = None
    advertise_addr: str = ""
    userns_remap: str = ""
    exec_allow: Allow = "all"
    device_allow: tuple[str, ...] = ()
    runtime: str = "local"
    backup: Backup = Backup()
    registry: RegistryConfig = RegistryConfig()
    metrics: MetricsConfig = MetricsConfig()
    http_access_log: bool = False

    @property
    def data(self) -> Path:
        return Path(self.data_dir)

    @property
    def reserve(self) -> int | None:
        """Bytes."""
        return None if self.reserve_mib is None else self.reserve_mib << 20

    @property
    def image_reserve(self) -> int | None:
        """Bytes: twice as much as a manager needs, so that images do not stop it."""
        return None if self.reserve is None else 2 * self.reserve

    @property
    def remap(self) -> tuple[int, int]:
        """First id and how many, zeros for none; :class:`Invalid` if it does not say that."""
        if not self.userns_remap:
            return (0, 0)
        first, _, size = self.userns_remap.partition(":")
        if not (first.isdecimal() and size.isdecimal()) or int(first) < 1 or int(size) < _LEAST_USERS:
            raise Invalid(
                f"userns_remap {self.userns_remap!r}: write FIRST:SIZE, such as 200000:65536, with users "
                f"nobody of this machine is, at least {_LEAST_USERS}"
            )
        if int(first) + int(size) > _LAST_USER:
            raise Invalid(f"userns_remap {self.userns_remap!r}: there are no users above {_LAST_USER}")
        return (int(first), int(size))

    @property
    def run(self) -> Path:
        return Path(self.run_dir)

    @property
    def socket(self) -> Path:
        return self.run / "swarmd.sock"


def load(path: Path | None) -> Config:
    """Read a file; None = defaults.  Raises Invalid naming file, key and value."""
    if path is None:
        return Config()
    try:
        config = msgspec.toml.decode(path.read_bytes(), type=Config)
        check_patterns(config.device_allow)
        config.registry.check()
        config.metrics.check()
    except FileNotFoundError as error:
        raise Invalid(f"the configuration file {path} does not exist") from error
    except msgspec.ValidationError as error:
        raise Invalid(f"{path}: {error}") from error
    except OSError as error:
        raise Invalid(f"the configuration file {path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML: {error}") from error
    return config
