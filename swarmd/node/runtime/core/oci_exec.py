"""What ``swarmd-runtime exec`` runs: the process of a container's config, changed by what was asked."""

from __future__ import annotations

import msgspec

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core.facts import HostFacts
from swarmd.node.runtime.core.oci import Capabilities, Process, User
from swarmd.node.runtime.core.plan import Step
from swarmd.node.runtime.core.plan_process import limits, start

_WINDOW = (24, 80)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The options of ``exec``; ``user`` is ``UID[:GID]``, ``env`` ``NAME=value``."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    caps: tuple[str, ...] = ()
    tty: bool | None = None
    no_new_privs: bool = False


def changed(process: Process, asked: Asked) -> Process:
    """Raises :class:`Invalid` for a user that is no number and a directory that is not absolute."""
    if not asked.args:
        raise Invalid("exec: no command given; name one after the container, or a --process file")
    if asked.cwd and not asked.cwd.startswith("/"):
        raise Invalid(f"--cwd {asked.cwd!r} must be an absolute path")
    return msgspec.structs.replace(
        process,
        args=asked.args,
        env=(*process.env, *asked.env),
        cwd=asked.cwd or process.cwd,
        user=_user(asked.user) if asked.user else process.user,
        terminal=bool(asked.tty),
        console_size=None,
        capabilities=_more(process.capabilities or Capabilities(), asked.caps),
        no_new_privileges=process.no_new_privileges or asked.no_new_privs,
    )


def _user(text: str) -> User:
    uid, _, gid = text.partition(":")
    if not uid.isdecimal() or (gid and not gid.isdecimal()):
        raise Invalid(f"--user {text!r}: write UID or UID:GID in numbers")
    return User(uid=int(uid), gid=int(gid or 0))


def _more(have: Capabilities, names: tuple[str, ...]) -> Capabilities:
    added = tuple(
        name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}" for name in names
    )
    return Capabilities(
        bounding=(*have.bounding, *added),
        effective=(*have.effective, *added),
        inheritable=have.inheritable,
        permitted=(*have.permitted, *added),
        ambient=have.ambient,
    )


def compile_exec(
    process: Process,
    facts: HostFacts,
    seccomp: bytes | None,
    *,
    filter_flags: int,
    procs: tuple[str, ...],
    flags: int,
    remapped: bool,
) -> list[Step]:
    """The steps of the child: into the ``flags`` namespaces, then as at the start of a container."""
    who = process.user
    return [
        *limits(process, facts),
        ("enter_container", list(procs), flags, remapped),
        *_terminal(process),
        ("ids", who.uid, who.gid, list(who.additional_gids)),
        look_up(process),
        ("ready",),
        *start(process, facts, seccomp, filter_flags),
    ]


def _terminal(process: Process) -> list[Step]:
    if not process.terminal:
        return []
    size = process.console_size
    rows, columns = (size.height, size.width) if size is not None else _WINDOW
    return [("terminal", rows, columns)]


def look_up(process: Process) -> Step:
    """Whether there is such a program, while somebody waits for the answer."""
    path = dict(entry.partition("=")[::2] for entry in process.env).get("PATH", "")
    return ("look_up", process.args[0], path, process.cwd)
