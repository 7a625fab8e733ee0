"""COPY and ADD of a tree into an empty layer.  Blocking; for threads."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from swarmd.image.build.core.graph import Copy, Inline, MakeDirectory
from swarmd.image.build.core.select import Chosen, check_destination, contents
from swarmd.image.build.core.tree import Item, Tree, join
from swarmd.image.streams import disk_errors
from swarmd.model.errors import Invalid, Unavailable
from swarmd.node.building.canvas import Canvas, Looks, landing
from swarmd.node.building.merged import write_all
from swarmd.node.building.unpacking import Unpacked, unpacked
from swarmd.node.runtime.core import users

_MODE = 0o644


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """``upper``: the empty layer; ``lowers`` below it, topmost first; ``scratch``: for what is unpacked;
    ``time`` (ns): of what has none of its own."""

    upper: Path
    lowers: tuple[Path, ...]
    scratch: Path
    time: int = 0


def copy(work: Work, step: Copy, trees: Sequence[tuple[Tree, tuple[Chosen, ...]]]) -> None:
    """Carry out a step.  ``trees``: what was chosen of each source, heredocs among them.

    Raises Invalid for what cannot be, Unavailable for a full disk.
    """
    with _disk(work.upper), contextlib.ExitStack() as stack:
        canvas = Canvas(work.upper, work.lowers, default_time=work.time)
        stack.callback(canvas.close)
        looks = Looks(owner_of(canvas, step.chown), step.chmod)
        every = [one for _, chosen in trees for one in chosen]
        check_destination(step.destination, every, parents=step.parents)
        for tree, chosen in trees:
            for one in chosen:
                found = stack.enter_context(_archive(work, step, tree, one))
                if found is not None:
                    whole = Chosen(path="", name="", item=Item(kind="directory"))
                    _copy_one(canvas, step, found.tree, whole, Looks(looks.owner))
                else:
                    _copy_one(canvas, step, tree, one, looks)


def make_directory(work: Work, step: MakeDirectory) -> None:
    """WORKDIR."""
    with _disk(work.upper):
        canvas = Canvas(work.upper, work.lowers, default_time=work.time)
        try:
            canvas.directory(canvas.resolved(step.path), owner_of(canvas, step.user))
        finally:
            canvas.close()


def owner_of(canvas: Canvas, text: str) -> tuple[int, int] | None:
    """``--chown`` by the image's own files; a user without a group brings its number as the group's.

    Raises Invalid.
    """
    if not text:
        return None
    user, _, group = text.partition(":")
    try:
        passwd, groups = canvas.text("etc/passwd"), canvas.text("etc/group")
        uid, gid, _, _ = users.resolve(text, passwd, groups)
    except ValueError as error:
        raise Invalid(f"invalid user {text!r} of --chown: {error}") from error
    if not group and user.isdecimal():
        gid = int(user)
    return uid, gid


def _copy_one(canvas: Canvas, step: Copy, tree: Tree, one: Chosen, looks: Looks) -> None:
    is_directory = one.item.kind == "directory"
    follow = not step.link
    if step.parents:
        top = landing(canvas, step.destination, is_directory=True, name="", follow=follow)
        for path, name in one.parents:
            item = tree.look(path)
            if item is not None:
                way = join(top, name)
                canvas.put(tree, path, item, way, looks, nested=canvas.look(way) is None)
        target = join(top, one.name)
    else:
        target = landing(canvas, step.destination, is_directory=is_directory, name=one.name, follow=follow)
    for path, inner, item in contents(tree, one, step.exclude):
        canvas.put(tree, path, item, join(target, inner), looks, nested=bool(inner) or step.parents)


@contextlib.contextmanager
def _archive(work: Work, step: Copy, tree: Tree, one: Chosen) -> Iterator[Unpacked | None]:
    """What an archive that ADD unpacks holds; None for everything else."""
    wanted = step.add and one.item.kind == "file"
    wanted = wanted and (step.unpack if step.unpack is not None else step.origin.where != "url")
    if not wanted:
        yield None
        return
    with unpacked(tree, one.path, work.scratch) as found:
        yield found


@contextlib.contextmanager
def _disk(upper: Path) -> Iterator[None]:
    try:
        with disk_errors(upper.parent):
            yield
    except OSError as error:
        raise Unavailable(f"the layer cannot be written: {error}") from error


class Heredocs:
    """Files whose content stands in the Dockerfile, as a tree."""

    def __init__(self, files: Sequence[Inline], time: int) -> None:
        self._files = {file.name: file.data for file in files}
        self._time = time

    def look(self, path: str) -> Item | None:
        if path not in self._files:
            return Item(kind="directory") if not path else None
        return Item(kind="file", mode=_MODE, size=len(self._files[path]), mtime_ns=self._time)

    def names(self, path: str) -> Sequence[str]:
        return sorted(self._files) if not path else ()

    def digest(self, path: str) -> str:
        return hashlib.sha256(self._files[path]).hexdigest()

    def write(self, path: str, fd: int) -> None:
        write_all(fd, self._files[path])

    def chosen(self) -> tuple[Chosen, ...]:
        """Each of them."""
        return tuple(
            Chosen(path=name, name=name, item=self.look(name) or Item(kind="file")) for name in self._files
        )
