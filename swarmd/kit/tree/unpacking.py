"""A tar stream → below a directory, while others may change what is there.

Blocking; for threads.  No link on the way is followed, nothing that exists is opened for writing: a file is
made anew in the place of the one before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple, cast

from swarmd.kit.tree.confined import held, open_below
from swarmd.kit.tree.ids import Owners

_CHUNK = 64 << 10
_HOLE = bytes(_CHUNK)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NODES = {tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


class BadArchive(ValueError):
    """What came is no tar, or leads out of the directory; the text is a sentence."""


class Taking(NamedTuple):
    """How entries are taken over.

    ``owner``: whom everything shall belong to, None: as the archive says; ``privileges``: also setuid and
    setgid bits, and capabilities; ``devices``: also device nodes, which are refused otherwise.  ``first``:
    what the first component of every name becomes.
    """

    owner: tuple[int, int] | None = None
    owners: Owners = Owners()
    privileges: bool = True
    devices: bool = False
    first: str = ""


def unpack(top: int, source: IO[bytes], taking: Taking) -> None:
    """Make what the stream says below the directory ``top`` (O_PATH will do), which stays the caller's.

    Raises :class:`BadArchive`, OSError.
    """
    unpacker = _Unpacker(top, taking)
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=_CHUNK, errorlevel=2) as archive:
            for info in archive:
                unpacker.take(info, archive)
    except (tarfile.TarError, EOFError, UnicodeError, OverflowError) as error:
        raise BadArchive(f"the archive cannot be read: {error}") from error
    unpacker.finish()


class _Unpacker:
    def __init__(self, top: int, taking: Taking) -> None:
        self._top = top
        self._taking = taking
        self._times: dict[str, float] = {}

    def take(self, info: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """One entry."""
        parts = self._parts(info.name)
        try:
            if not parts:
                if not info.isdir():
                    raise BadArchive(f"the archive has no name for an entry: {info.name!r}")
                return
            with held(self._directory(parts[:-1])) as parent:
                self._make(parent, parts, info, archive)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise BadArchive(
                    f"{info.name} cannot be made: something on the way to it is no directory"
                ) from error
            raise OSError(error.errno, f"{info.name}: {os.strerror(error.errno or 0)}") from error

    def finish(self) -> None:
        """The times of directories, which filling them has changed."""
        for path, at in reversed(self._times.items()):
            with contextlib.suppress(OSError), held(open_below(self._top, path, _DIRECTORY)) as fd:
                os.utime(fd, (at, at))

    def _parts(self, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts or "\0" in name:
            raise BadArchive(f"the archive leads out of its directory: {name!r}")
        if self._taking.first and parts:
            parts[0] = self._taking.first
        return parts

    def _directory(self, parts: list[str]) -> int:
        path = "/".join(parts) or "."
        try:
            return open_below(self._top, path, _DIRECTORY)
        except FileNotFoundError:
            with held(self._directory(parts[:-1])) as parent, contextlib.suppress(FileExistsError):
                os.mkdir(parts[-1], 0o755, dir_fd=parent)
            return open_below(self._top, path, _DIRECTORY)

    def _make(self, parent: int, parts: list[str], info: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        name = parts[-1]
        if info.isdir():
            self._make_directory(parent, name, info)
            self._times["/".join(parts)] = info.mtime
            return
        if info.islnk():
            self._link(parent, name, info)
            return
        _make_room(parent, name, info.name)
        if info.issym():
            os.symlink(info.linkname, name, dir_fd=parent)
            self._dress_name(parent, name, info)
        elif info.type in _NODES:
            self._make_node(parent, name, info)
        else:
            self._make_file(parent, name, info, archive)

    def _make_directory(self, parent: int, name: str, info: tarfile.TarInfo) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            seen = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(seen.st_mode):
                raise BadArchive(f'cannot overwrite non-directory "{info.name}" with a directory') from None
        with held(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)) as fd:
            self._dress(fd, info)

    def _make_file(self, parent: int, name: str, info: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with held(os.open(name, flags, 0o600, dir_fd=parent)) as fd:
            data = archive.extractfile(info)
            try:
                if data is not None:
                    _fill(fd, iter(lambda: data.read(_CHUNK), b""))
            except BaseException:  # half a file takes room and is of no use
                if _is_same(parent, name, os.fstat(fd)):
                    os.unlink(name, dir_fd=parent)
                raise
            self._dress(fd, info)
            os.utime(fd, (info.mtime, info.mtime))

    def _make_node(self, parent: int, name: str, info: tarfile.TarInfo) -> None:
        if info.type != tarfile.FIFOTYPE and not self._taking.devices:
            raise BadArchive(f"{info.name} is a device, and devices are not copied")
        device = os.makedev(info.devmajor, info.devminor)
        os.mknod(name, _NODES[info.type] | 0o600, device, dir_fd=parent)
        self._dress_name(parent, name, info)
        # By descriptor: the name may be a link by now.
        with held(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as place:
            if stat.S_IFMT(os.fstat(place).st_mode) == _NODES[info.type]:
                os.chmod(f"/proc/self/fd/{place}", info.mode & 0o777)

    def _link(self, parent: int, name: str, info: tarfile.TarInfo) -> None:
        source = self._parts(info.linkname)
        if not source:
            raise BadArchive(f"the archive has a hard link {info.name} to nothing")
        with held(open_below(self._top, "/".join(source[:-1]) or ".", _DIRECTORY)) as holder:
            seen = os.stat(source[-1], dir_fd=holder, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                raise BadArchive(f"the archive has a hard link {info.name} to a directory")
            if _is_same(parent, name, seen):
                return
            _make_room(parent, name, info.name)
            os.link(source[-1], name, src_dir_fd=holder, dst_dir_fd=parent, follow_symlinks=False)

    def _owner(self, info: tarfile.TarInfo) -> tuple[int, int]:
        user, group = self._taking.owner or (info.uid, info.gid)
        return self._taking.owners.users.outside(user), self._taking.owners.groups.outside(group)

    def _dress(self, fd: int, info: tarfile.TarInfo) -> None:
        user, group = self._owner(info)
        os.fchown(fd, user, group)
        for key, value in cast(dict[str, str], info.pax_headers).items():
            name = key.removeprefix("SCHILY.xattr.")
            wanted = name.startswith("user.") or (name == "security.capability" and self._taking.privileges)
            if name != key and wanted:
                with contextlib.suppress(OSError):  # not every file system has them
                    os.setxattr(fd, name, value.encode("utf-8", "surrogateescape"))
        # After the owner: a change of owner takes these bits away.
        os.fchmod(fd, info.mode & (0o7777 if self._taking.privileges else 0o1777))

    def _dress_name(self, parent: int, name: str, info: tarfile.TarInfo) -> None:
        user, group = self._owner(info)
        os.chown(name, user, group, dir_fd=parent, follow_symlinks=False)
        os.utime(name, (info.mtime, info.mtime), dir_fd=parent, follow_symlinks=False)


def _make_room(parent: int, name: str, shown: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise BadArchive(f'cannot overwrite directory "{shown}" with a non-directory') from None


def _is_same(parent: int, name: str, seen: os.stat_result) -> bool:
    try:
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, seen)


def _fill(fd: int, pieces: Iterable[bytes]) -> None:
    """Write; long runs of zeros become holes."""
    size = 0
    for data in pieces:
        if data == _HOLE[: len(data)]:
            os.lseek(fd, len(data), os.SEEK_CUR)
        else:
            _write_all(fd, data)
        size += len(data)
    os.ftruncate(fd, size)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Stream:
    """A file to read, of pieces as they come: what :func:`unpack` takes from an iterator."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; b"" at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        size = len(self._rest) if size < 0 else size
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def as_file(self) -> IO[bytes]:
        """Itself, for those who want to be told that it is a file."""
        return cast(IO[bytes], cast(Any, self))
