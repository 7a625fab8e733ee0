"""Unpacked layers reach the disk later than their names: until then a mark tells that they may be torn.

::

    unpacked ─► marked with this boot's id ─► named ─► … ─► file system synced ─► mark removed

A layer can be unpacked again from its blob, so nobody waits for the disk.  The journal keeps the order of
mark and name; after a power failure a tree that still has the mark of another boot is not trusted.  After a
crash of the daemon alone nothing is torn, and containers run on it: such a tree stays.

Blocking; for threads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path

from swarmd.image.blobs import sync
from swarmd.image.kernel import sync_file_system

MARK = "trusted.swarmd.boot"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LATER = 3.0  # seconds: what is unpacked together is synced together


class Settling:
    """The trees in ``home`` whose data may not be on the disk."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._boot = _BOOT_ID.read_bytes().strip()
        self._waiting: set[str] = set()
        self._change = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def open(self) -> list[Path]:
        """The trees that cannot be trusted, for removal; go on with the others that are marked."""
        torn = []
        for path in self._home.iterdir():
            mark = _mark_of(path)
            if mark == self._boot:
                self._later(path.name)
            elif mark:
                torn.append(path)
        return torn

    def publish(self, tree: Path, name: str) -> Path:
        """Give ``tree`` its name; where there is one of that name already, it is left alone."""
        home = self._home / name
        if home.is_dir():
            return home
        try:
            os.setxattr(tree, MARK, self._boot)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            _sync_all(tree)  # nowhere to leave a mark
            tree.rename(home)
            sync(self._home)
            return home
        tree.rename(home)
        self._later(name)
        return home

    def close(self) -> None:
        """Stop; the marks stay for the next process."""
        self._closed.set()
        with self._change:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _later(self, name: str) -> None:
        with self._change:
            self._waiting.add(name)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._settle, name="image-settle", daemon=True)
                self._thread.start()

    def _settle(self) -> None:
        while not self._closed.wait(_LATER):
            with self._change:
                names, self._waiting = self._waiting, set()
                if not names:
                    self._thread = None
                    return
            # A disk that fails keeps the marks: the trees are made again after the next boot.
            with contextlib.suppress(OSError):
                _sync_all(self._home)
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        os.removexattr(self._home / name, MARK)


def _sync_all(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file_system(fd)
    finally:
        os.close(fd)


def _mark_of(tree: Path) -> bytes:
    try:
        return os.getxattr(tree, MARK)
    except OSError:
        return b""
