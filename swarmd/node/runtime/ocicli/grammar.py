"""The command line as data: the commands and options of crun, and how they are read.

``--name VALUE``, ``--name=VALUE``, ``-n VALUE``, ``-nVALUE`` and short flags together (``-td``) are
understood; options may stand anywhere, but after the container of ``exec`` all words are the program's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from swarmd.model.errors import Invalid

END_OF_OPTIONS = "--"


class Option(msgspec.Struct, frozen=True):
    """``takes``: nothing, a value, or one that may be left out (``--tty[=TTY]``)."""

    name: str
    short: str = ""
    takes: Literal["nothing", "value", "maybe"] = "nothing"


class Command(msgspec.Struct, frozen=True):
    """``operands``: the least and the most (None: any number); ``program``: the last are a program's."""

    name: str
    summary: str
    options: tuple[Option, ...] = ()
    operands: tuple[int, int | None] = (1, 1)
    usage: str = "CONTAINER"
    program: bool = False


class Words(msgspec.Struct, frozen=True):
    """What was said: option → its values in order (``""`` for a flag), and the operands."""

    options: Mapping[str, tuple[str, ...]]
    operands: tuple[str, ...] = ()

    def has(self, name: str) -> bool:
        return name in self.options

    def text(self, name: str, default: str = "") -> str:
        """The last value given."""
        return self.options[name][-1] if name in self.options else default

    def texts(self, name: str) -> tuple[str, ...]:
        return self.options.get(name, ())

    def number(self, name: str) -> int | None:
        """None if it was not said; :class:`Invalid` if it is no number."""
        if name not in self.options:
            return None
        text = self.text(name)
        try:
            return int(text)
        except ValueError:
            raise Invalid(f"--{name} {text!r} is not a number") from None


def flag(name: str, short: str = "") -> Option:
    return Option(name, short)


def value(name: str, short: str = "") -> Option:
    return Option(name, short, "value")


GLOBAL: tuple[Option, ...] = (
    value("root"), value("cgroup-manager"), flag("debug"), value("log"), value("log-format"),
    value("log-level"), flag("systemd-cgroup"), value("rootless"), flag("help", "h"), flag("version", "v"),
)  # fmt: skip
_MAKING = (
    value("bundle", "b"), value("config", "f"), value("console-socket"), value("pid-file"),
    value("preserve-fds"), flag("no-pivot"), flag("no-new-keyring"), flag("no-subreaper"),
)  # fmt: skip
LIMITS = (
    "blkio-weight", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "cpu-share",
    "cpuset-cpus", "cpuset-mems", "kernel-memory", "kernel-memory-tcp", "memory", "memory-reservation",
    "memory-swap", "pids-limit",
)  # fmt: skip
COMMANDS = {
    command.name: command
    for command in (
        Command("create", "make a container that waits to be started", _MAKING),
        Command("delete", "remove what create made", (flag("force", "f"), flag("regex", "r"))),
        Command(
            "exec",
            "run a further program in a container",
            (
                value("process", "p"), value("cwd"), value("env", "e"), value("user", "u"),
                Option("tty", "t", "maybe"), flag("detach", "d"), value("pid-file"), value("console-socket"),
                value("cap", "c"), flag("no-new-privs"), value("preserve-fds"), value("cgroup"),
                value("apparmor"), value("process-label"),
            ),
            (1, None),
            "CONTAINER [COMMAND [ARG...]]",
            program=True,
        ),
        Command("features", "say what this runtime can do, as JSON", (), (0, 0), ""),
        Command(
            "kill",
            "send a signal to the container's first process",
            (flag("all", "a"), flag("regex", "r")),
            (1, 2),
            "CONTAINER [SIGNAL]",
        ),
        Command("list", "list the containers", (flag("quiet", "q"), value("format", "f")), (0, 0), ""),
        Command("pause", "freeze all processes of a container"),
        Command("ps", "list the processes of a container", (value("format", "f"),)),
        Command("resume", "let a paused container go on"),
        Command("run", "create, start, wait and delete", (*_MAKING, flag("detach", "d"), flag("keep"))),
        Command(
            "spec",
            "write a config.json to begin with",
            (value("bundle", "b"), value("file", "f"), flag("rootless")),
            (0, 0),
            "",
        ),
        Command("start", "run the program of a container that was created"),
        Command("state", "print the state of a container"),
        Command(
            "update",
            "change the limits of a container",
            (value("resources", "r"), *(value(name) for name in LIMITS)),
        ),
    )
}  # fmt: skip


def parse(arguments: list[str]) -> tuple[Words, Command | None, Words]:
    """The global options, the command (None: none was named) and what was said to it.

    Raises :class:`Invalid` for what is not part of the grammar.
    """
    before, rest = _read(arguments, GLOBAL, stop_after=0)
    if not rest:
        return before, None, Words({})
    command = COMMANDS.get(rest[0])
    if command is None:
        raise Invalid(f"unknown command {rest[0]}; the commands are {', '.join(COMMANDS)}")
    options = (*command.options, flag("help", "h"))
    said, operands = _read(rest[1:], options, stop_after=1 if command.program else None)
    least, most = command.operands
    if not said.has("help") and (len(operands) < least or (most is not None and len(operands) > most)):
        raise Invalid(f"usage: {command.name} [OPTION...] {command.usage}")
    return before, command, Words(said.options, tuple(operands))


def _read(words: list[str], known: tuple[Option, ...], *, stop_after: int | None) -> tuple[Words, list[str]]:
    """The options among ``words``, and the operands; no option is read after ``stop_after`` operands."""
    by_name = {option.name: option for option in known}
    by_letter = {option.short: option for option in known if option.short}
    found: dict[str, tuple[str, ...]] = {}
    operands: list[str] = []
    rest = list(words)
    while rest:
        if stop_after is not None and operands[stop_after - 1 :] and len(operands) >= stop_after:
            break
        word = rest.pop(0)
        if word == END_OF_OPTIONS:
            break
        if not word.startswith("-") or word == "-":
            if stop_after == 0:
                rest.insert(0, word)
                break
            operands.append(word)
            continue
        taken = _long(word, by_name, rest) if word.startswith("--") else _letters(word, by_letter, rest)
        for name, said in taken:
            found[name] = (*found.get(name, ()), said)
    return Words(found), operands + rest


def _long(word: str, known: Mapping[str, Option], rest: list[str]) -> list[tuple[str, str]]:
    name, equals, said = word[2:].partition("=")
    option = known.get(name)
    if option is None:
        raise Invalid(f"unknown option --{name}")
    if option.takes == "nothing" and equals and said not in ("true", "false"):
        raise Invalid(f"option --{name} takes no value")
    if option.takes == "nothing" and said == "false":
        return []
    if option.takes == "value" and not equals:
        said = _next(rest, f"--{name}")
    return [(name, said if option.takes != "nothing" else "")]


def _letters(word: str, known: Mapping[str, Option], rest: list[str]) -> list[tuple[str, str]]:
    out = []
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = known.get(letter)
        if option is None:
            raise Invalid(f"unknown option -{letter}")
        if option.takes == "value":
            out.append((option.name, letters or _next(rest, f"-{letter}")))
            break
        out.append((option.name, ""))
    return out


def _next(rest: list[str], option: str) -> str:
    if not rest:
        raise Invalid(f"option {option} needs a value")
    return rest.pop(0)


def usage(command: Command | None) -> str:
    """The help text."""
    if command is None:
        lines = ["usage: swarmd-runtime [OPTION...] COMMAND [OPTION...] CONTAINER", "", "commands:"]
        lines += [f"  {each.name:10}{each.summary}" for each in COMMANDS.values()]
        options = GLOBAL
    else:
        lines = [f"usage: swarmd-runtime {command.name} [OPTION...] {command.usage}".rstrip(), ""]
        lines.append(command.summary)
        options = command.options
    lines += ["", "options:", *(f"  {_spelling(option)}" for option in options)]
    return "\n".join(lines) + "\n"


def _spelling(option: Option) -> str:
    tail = {"nothing": "", "value": "=VALUE", "maybe": "[=VALUE]"}[option.takes]
    return f"{f'-{option.short}, ' if option.short else '    '}--{option.name}{tail}"
