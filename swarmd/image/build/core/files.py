"""RUN, COPY and ADD: the operations they are, with every word expanded.  Pure."""

from __future__ import annotations

import posixpath
import re

from swarmd.image.build.core import history
from swarmd.image.build.core.graph import BuildMount, Copy, Inline, Operation, Origin, Run, Where
from swarmd.image.build.core.heredoc import Heredoc
from swarmd.image.build.core.meaning import Copy as CopySaid
from swarmd.image.build.core.meaning import Run as RunSaid
from swarmd.image.build.core.mounts import MountSpec, settle
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.origins import Origins
from swarmd.image.build.core.state import Expander, StageState
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace

Done = list[tuple[str, Operation | None]]
"""Texts of the history with the operations they name: of most instructions one."""

PIPES = "/dev/pipes/"

_OCTAL = re.compile(r"[0-7]+")
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")
_GIT = re.compile(r"git@[\w.-]+:|git://|ssh://|https?://[^#?]+\.git(?:[#?]|$)|(?:github\.com)/.+\.git(?:#|$)")


def within(directory: str, path: str) -> str:
    """The path, absolute and cleaned; a relative one is in that directory."""
    joined = posixpath.normpath(posixpath.join("/", directory, path))
    return "/" + joined.lstrip("/")


def destination(directory: str, path: str) -> str:
    """The same for what is copied to: a ``/`` at the end stays, and ``.`` has one."""
    cleaned = within(directory, path)
    is_directory = path in ("", ".") or path.endswith(("/", "/."))
    return f"{cleaned}/" if is_directory and cleaned != "/" else cleaned


def kind_of(source: str) -> Where:
    """``git``, ``url``, or ``context`` for a path."""
    if _GIT.match(source):
        return "git"
    return "url" if source.startswith(("http://", "https://")) else "context"


class FileSteps:
    """Makes operations of a stage's instructions."""

    def __init__(self, origins: Origins, state: StageState, options: Options) -> None:
        self._origins, self._state, self._options = origins, state, options

    def run(self, said: RunSaid, expand: Expander) -> Done:
        """The command, its surroundings, and what the history says of it."""
        args, files = _command(said)
        if said.command.shell:
            args = (*self._state.shell(), " ".join(args))
        operation = Run(
            args=args,
            env=self._state.environment(),
            proxy=self._state.proxies(self._options.build_args),
            workdir=self._state.config.workdir or "/",
            user=self._state.config.user,
            mounts=tuple(self._mount(spec, expand) for spec in said.mounts),
            files=files,
            network=said.network,
            security=said.security,
        )
        return [(history.ran(args, self._state.declared()), operation)]

    def _mount(self, spec: MountSpec, expand: Expander) -> BuildMount:
        made = settle(spec, expand, self._origins.of(spec.get("from"), expand.line))
        changes: dict[str, object] = {}
        if made.target:
            target = within(self._state.config.workdir, made.target)
            if target == "/":
                raise Invalid(f'invalid mount target "{made.target}"')
            changes["target"] = target
        if made.kind in ("bind", "cache"):
            changes["source"] = within("/", made.source)
        return replace(made, **changes)

    def copy(self, said: CopySaid, expand: Expander) -> Done:
        """One operation for each origin of the sources: for COPY there is one."""
        sources = tuple(expand(source) for source in said.sources)
        inline = tuple(self._inline(heredoc, expand) for heredoc in said.inline)
        target = destination(self._state.config.workdir, expand(said.destination))
        keyword = "ADD" if said.add else "COPY"
        if len(sources) + len(inline) > 1 and not target.endswith("/"):
            raise Invalid(
                f"When using {keyword} with more than one source file, the destination must be a directory "
                "and end with a /"
            )
        common = Copy(
            destination=target,
            chown=expand(said.chown),
            chmod=_mode(expand(said.chmod)),
            link=said.link,
            parents=said.parents,
            exclude=tuple(expand(pattern) for pattern in said.exclude),
            add=said.add,
            unpack=said.unpack,
            checksum=expand(said.checksum),
            keep_git_dir=said.keep_git_dir,
        )
        _check(said, sources, common.checksum)
        parts = self._parts(said, sources, inline, common, expand.line)
        return [(_created_by(said, part, expand), part) for part in parts]

    def _parts(
        self, said: CopySaid, sources: tuple[str, ...], inline: tuple[Inline, ...], common: Copy, line: int
    ) -> list[Copy]:
        kinds: list[tuple[Where, str]] = [
            (kind_of(source) if said.add else "context", source) for source in sources
        ]
        remote = [(kind, source) for kind, source in kinds if kind != "context"]
        near = tuple(source for kind, source in kinds if kind == "context")
        parts = [
            replace(common, origin=Origin(where=kind, ref=source), sources=("/",) if kind == "git" else ())
            for kind, source in remote
        ]
        if near or inline:
            origin = self._origins.of(said.source, line)
            parts.insert(0, replace(common, origin=origin, sources=near, inline=inline))
        return parts

    def _inline(self, heredoc: Heredoc, expand: Expander) -> Inline:
        text = expand.text(heredoc.text, quotes=False) if heredoc.mark.expand else heredoc.text
        return Inline(name=_file_name(heredoc), data=text.encode())


def _file_name(heredoc: Heredoc) -> str:
    """Of the file that a heredoc becomes.  Raises Invalid for one that would lie somewhere else."""
    name = heredoc.name
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise Invalid(f"the heredoc <<{name} becomes a file of that name: write it without / (<<EOF)")
    return name


def _command(said: RunSaid) -> tuple[tuple[str, ...], tuple[Inline, ...]]:
    """What is run, without its shell, and the files it needs."""
    args, heredocs = said.command.args, said.heredocs
    if not heredocs:
        return args, ()
    first, text = heredocs[0], args[0]
    if len(heredocs) == 1 and _is_only(text, first):
        if first.text.startswith("#!"):
            name = _file_name(first)
            return (PIPES + name,), (Inline(name=name, data=first.text.encode()),)
        return (first.text,), ()
    # The shell reads them itself, so they are given back to it as they were.
    return (text + "".join(f"\n{heredoc.content}{heredoc.name}" for heredoc in heredocs),), ()


def _is_only(text: str, heredoc: Heredoc) -> bool:
    """Whether the command is nothing but the announcement of that heredoc."""
    bare = text.strip()
    return len(bare) == heredoc.mark.end - heredoc.mark.start and "<<" in bare


def _mode(text: str) -> str:
    if not text or _SYMBOLIC.fullmatch(text):
        return text
    if not _OCTAL.fullmatch(text) or int(text, 8) > 0o7777:
        raise Invalid(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    return text


def _check(said: CopySaid, sources: tuple[str, ...], checksum: str) -> None:
    kinds = [kind_of(source) for source in sources]
    if not said.add and not said.source:
        if "git" in kinds:
            raise Invalid("source can't be a git ref for COPY")
        if "url" in kinds:
            raise Invalid("source can't be a URL for COPY")
    if not checksum:
        return
    if len(sources) != 1:
        raise Invalid("checksum can't be specified for multiple sources")
    if kinds[0] == "context":
        raise Invalid("checksum requires HTTP(S) or Git sources")


def _created_by(said: CopySaid, part: Copy, expand: Expander) -> str:
    flags = [
        *(["--parents"] if part.parents else []),
        *([f"--chown={part.chown}"] if part.chown else []),
        *([f"--chmod={part.chmod}"] if part.chmod else []),
    ]
    what = (part.origin.ref,) if part.origin.where in ("url", "git") else part.sources
    return history.copied(
        add=said.add,
        flags=tuple(flags),
        what=(*what, *(f"<<{file.name}" for file in part.inline)),
        destination=expand(said.destination),
    )
