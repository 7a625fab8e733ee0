"""What every command of ``swarmd-runtime`` works with: the containers of a state directory, as they are."""

from __future__ import annotations

import os

from swarmd.model.errors import NotFound, Refused, SwarmError
from swarmd.node.runtime.core import oci_state
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.core.oci_state import Record, Seen, Status
from swarmd.node.runtime.ocicli import groups
from swarmd.node.runtime.ocicli.report import Reporter
from swarmd.node.runtime.ocicli.store import SOCKET, Store
from swarmd.node.runtime.which_process import boot_id


class Context:
    """``manager`` is one of ``groups.MANAGERS``."""

    def __init__(self, store: Store, report: Reporter, manager: str) -> None:
        self.store = store
        self.report = report
        self.manager = manager

    def groups(self, record: Record) -> ContainerGroups:
        return ContainerGroups(record.v2, record.v1)

    def status(self, record: Record) -> Status:
        if not record.pid:
            return oci_state.status(Seen(making=self.store.is_locked(record.id)))
        seen = Seen(
            alive=is_alive(record),
            waiting=os.path.exists(f"{self.store.directory(record.id)}/{SOCKET}"),
            frozen=groups.is_frozen(self.groups(record)),
        )
        return oci_state.status(seen)

    def rows(self) -> list[tuple[Record, Status]]:
        """All containers; one that is being removed meanwhile is left out."""
        out = []
        for name in self.store.ids():
            try:
                record = self.store.load(name)
                out.append((record, self.status(record)))
            except NotFound:
                continue
            except SwarmError as error:
                self.report.warning(str(error))
        return out

    def require(self, record: Record, *wanted: Status, doing: str) -> Status:
        """The status; :class:`Refused` unless it is one of ``wanted``."""
        now = self.status(record)
        if now not in wanted:
            raise Refused(
                f"cannot {doing} container `{record.id}`: it is {now}, not {' or '.join(wanted)}"
                + (": the container is not running" if now == "stopped" else "")
            )
        return now

    def open_process(self, record: Record) -> int:
        """A pidfd of the container's first process; :class:`Refused` if it is gone."""
        try:
            pidfd = os.pidfd_open(record.pid) if record.pid else -1
        except ProcessLookupError:
            pidfd = -1
        if pidfd >= 0 and is_alive(record):  # looked at after it was opened: it cannot be another's
            return pidfd
        if pidfd >= 0:
            os.close(pidfd)
        raise Refused(f"container `{record.id}` is not running: No such process")


def is_alive(record: Record) -> bool:
    """Whether its process is the one that was made, and no corpse that waits for its parent."""
    if record.boot != boot_id():
        return False
    try:
        with open(f"/proc/{record.pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return False
    return fields[0] not in (b"Z", b"X") and fields[19].decode() == record.started
