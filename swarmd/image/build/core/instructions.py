"""The eighteen instructions, each with its arguments understood and checked.  Nothing is expanded yet.  Pure.

Instruction ──► From | Arg | Env | Label | Run | Copy | Command | Health | Words | Trigger
"""

from __future__ import annotations

import re
from collections.abc import Callable

from swarmd.image.build.core.flags import Flags, did_you_mean
from swarmd.image.build.core.health import read_health
from swarmd.image.build.core.lines import failed
from swarmd.image.build.core.meaning import (
    Arg,
    Command,
    Copy,
    From,
    Health,
    Meaning,
    Pairs,
    Run,
    Trigger,
    Words,
)
from swarmd.image.build.core.mounts import read_mount
from swarmd.image.build.core.parse import Instruction
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")


def understand(said: Instruction) -> Meaning:
    """What the instruction means.  Raises Invalid, with its line."""
    try:
        reader = _READERS.get(said.keyword)
        if reader is None:
            hint = did_you_mean(said.keyword, tuple(name.upper() for name in _READERS))
            raise Invalid(f"unknown instruction: {said.word}{hint}")
        return reader(said)
    except Invalid as error:
        raise failed(said.first, str(error)) from None


def _no_flags(said: Instruction) -> None:
    Flags(said.flags, {})


def _from(said: Instruction) -> From:
    flags = Flags(said.flags, {"platform": "text"})
    args = said.args
    if len(args) == 3 and args[1].lower() == "as":
        name = args[2].lower()
        if not _STAGE_NAME.fullmatch(name):
            raise Invalid(
                f'invalid name for build stage: "{args[2]}", '
                "name can't start with a number or contain symbols"
            )
        return From(
            image=args[0],
            name=name,
            platform=flags.text("platform"),
            name_written=args[2],
            as_written=args[1],
        )
    if len(args) != 1:
        raise Invalid("FROM requires either one or three arguments")
    return From(image=args[0], platform=flags.text("platform"))


def _arg(said: Instruction) -> Arg:
    _some(said)
    pairs: list[tuple[str, str | None]] = []
    for arg in said.args:
        name, equals, value = arg.partition("=")
        if not name:
            raise Invalid("ARG names can not be blank")
        pairs.append((name, value if equals else None))
    return Arg(pairs=tuple(pairs))


def _pairs(said: Instruction) -> Pairs:
    _no_flags(said)
    _some(said)
    names, values = said.args[::2], said.args[1::2]
    if not all(names):
        raise Invalid(f"{said.keyword.upper()} names can not be blank")
    return Pairs(pairs=tuple(zip(names, values, strict=True)), legacy=said.legacy)


def _command(said: Instruction) -> Command:
    return Command(args=said.args, shell=not said.exec_form)


def _cmd(said: Instruction) -> Command:
    _no_flags(said)
    return _command(said)


def _run(said: Instruction) -> Run:
    flags = Flags(said.flags, {"mount": "many", "network": "text", "security": "text"})
    network = _one_of("network mode", flags.text("network") or "default", ("default", "none", "host"))
    security = _one_of("security mode", flags.text("security") or "sandbox", ("sandbox", "insecure"))
    if said.heredocs and said.exec_form:
        raise Invalid("RUN cannot take a heredoc together with a JSON array")
    return Run(
        command=_command(said),
        heredocs=said.heredocs,
        mounts=tuple(read_mount(text) for text in flags.many("mount")),
        network=network,
        security=security,
    )


def _one_of(what: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Invalid(f'unsupported {what} "{value}"{did_you_mean(value, known)}')
    return value


def _copy(said: Instruction) -> Copy:
    flags = Flags(
        said.flags,
        {
            "from": "text",
            "chown": "text",
            "chmod": "text",
            "link": "switch",
            "parents": "switch",
            "exclude": "many",
        },
    )
    return replace(_files(said, flags), source=flags.text("from"), parents=bool(flags.switch("parents")))


def _add(said: Instruction) -> Copy:
    flags = Flags(
        said.flags,
        {
            "chown": "text",
            "chmod": "text",
            "link": "switch",
            "keep-git-dir": "switch",
            "checksum": "text",
            "unpack": "switch",
            "exclude": "many",
        },
    )
    return replace(
        _files(said, flags),
        add=True,
        checksum=flags.text("checksum"),
        unpack=flags.switch("unpack"),
        keep_git_dir=bool(flags.switch("keep-git-dir")),
    )


def _files(said: Instruction, flags: Flags) -> Copy:
    keyword, last = said.keyword.upper(), len(said.args) - 1
    if last < 1:
        raise Invalid(
            f"{keyword} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )
    if last in said.inline:
        raise Invalid(f"{keyword} cannot accept a heredoc as a destination")
    sources = tuple(arg for at, arg in enumerate(said.args[:last]) if at not in said.inline)
    return Copy(
        sources=sources,
        inline=tuple(said.inline[at] for at in sorted(said.inline)),
        destination=said.args[last],
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.switch("link")),
        exclude=flags.many("exclude"),
    )


def _health(said: Instruction) -> Health:
    return Health(check=read_health(said.flags, said.args, exec_form=said.exec_form))


def _one(said: Instruction) -> Words:
    if len(said.args) != 1:
        raise Invalid(f"{said.keyword.upper()} requires exactly one argument")
    _no_flags(said)
    return Words(words=said.args)


def _several(said: Instruction) -> Words:
    _some(said)
    _no_flags(said)
    if said.keyword == "volume" and not all(word.strip() for word in said.args):
        raise Invalid("VOLUME specified can not be an empty string")
    return Words(words=tuple(word.strip() for word in said.args))


def _shell(said: Instruction) -> Words:
    _no_flags(said)
    _some(said)
    if not said.exec_form:
        raise Invalid(f"SHELL requires the arguments to be in JSON form: {said.word} {said.rest}")
    return Words(words=said.args)


def _onbuild(said: Instruction) -> Trigger:
    if said.inner is None:
        raise Invalid("ONBUILD requires at least one argument")
    held = said.inner.keyword.upper()
    if held == "ONBUILD":
        raise Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if held in ("FROM", "MAINTAINER"):
        raise Invalid(f"{held} isn't allowed as an ONBUILD trigger")
    understand(said.inner)
    endings = "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in said.heredocs)
    return Trigger(expression=said.rest + endings)


def _some(said: Instruction) -> None:
    if not said.args:
        raise Invalid(f"{said.keyword.upper()} requires at least one argument")


_READERS: dict[str, Callable[[Instruction], Meaning]] = {
    "add": _add,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _cmd,
    "env": _pairs,
    "expose": _several,
    "from": _from,
    "healthcheck": _health,
    "label": _pairs,
    "maintainer": _one,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _one,
    "user": _one,
    "volume": _several,
    "workdir": _one,
}
KEYWORDS = tuple(_READERS)
