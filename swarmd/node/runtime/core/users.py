"""Who a container runs as, decided from its own /etc/passwd and /etc/group.  The spawner loads this too."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_ID = 0xFFFFFFFE


def resolve(spec: str, passwd: str, group: str, more: Sequence[str] = ()) -> tuple[int, int, list[int], str]:
    """``(uid, gid, supplementary gids, home)`` of ``spec``: "", user, uid, user:group, uid:gid.

    A number without an entry is taken as it is (group 0, home ``/``).  A name without one raises
    :class:`ValueError` with the sentence to show.  With an explicit group there are no other groups
    but ``more``, which are names or numbers.
    """
    extra = [_group(group, name) for name in more]
    user, colon, wanted_group = spec.partition(":")
    user = user or "0"
    entry = _find(passwd, user, 7)
    if entry is not None:
        name, uid, gid, home = entry[0], int(entry[2]), int(entry[3]), entry[5] or "/"
    elif user.isdecimal():
        name, uid, gid, home = "", _number(user, "user"), 0, "/"
    else:
        raise ValueError(f"unable to find user {user}: no matching entries in passwd file")
    if colon and wanted_group:
        gid = _group(group, wanted_group)
        return uid, gid, sorted({gid, *extra}), home
    groups = {gid, *extra}
    if name:
        groups.update(int(row[2]) for row in _rows(group, 4) if name in row[3].split(","))
    return uid, gid, sorted(groups), home


def home(uid: int, passwd: str) -> str:
    """The home directory of a number, ``/`` if nobody has it."""
    return next((row[5] or "/" for row in _rows(passwd, 7) if int(row[2]) == uid), "/")


def _group(text: str, wanted: str) -> int:
    entry = _find(text, wanted, 4)
    if entry is not None:
        return int(entry[2])
    if wanted.isdecimal():
        return _number(wanted, "group")
    raise ValueError(f"unable to find group {wanted}: no matching entries in group file")


def _number(text: str, what: str) -> int:
    number = int(text)
    if number > _MAX_ID:
        raise ValueError(f"{what} {text} is out of range; the largest id is {_MAX_ID}")
    return number


def _find(text: str, wanted: str, fields: int) -> list[str] | None:
    rows = list(_rows(text, fields))
    for row in rows:
        if row[0] == wanted:
            return row
    for row in rows:
        if row[2] == wanted:
            return row
    return None


def _rows(text: str, fields: int) -> list[list[str]]:
    """The well-formed lines; others are passed over, as libc does."""
    out = []
    for line in text.splitlines():
        row = line.strip().split(":")
        numbers = row[2 : 4 if fields == 7 else 3]
        if len(row) >= fields and row[0] and all(part.isdecimal() for part in numbers):
            out.append(row)
    return out
