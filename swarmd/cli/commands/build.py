"""``swarmctl build``: an image from a Dockerfile, made by the node's own builder."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from swarmd.cli import session, terminal
from swarmd.cli.errors import CliError
from swarmd.cli.grammar import Command, switch

if TYPE_CHECKING:
    from swarmd.cli.build_context import BuildContext
    from swarmd.cli.build_show import Show
    from swarmd.rpc.v1 import build_pb2 as pb

_MOST_SECRET = 500 << 10
_PROGRESS = ("auto", "plain", "tty", "quiet", "rawjson")


@click.command("build", cls=Command)
@click.option("-t", "--tag", "tags", metavar="NAME[:TAG]", multiple=True, help="Name of the image")
@click.option("-f", "--file", "dockerfile", metavar="PATH", help="The Dockerfile (default: PATH/Dockerfile)")
@click.option("--build-arg", "build_args", metavar="KEY[=VALUE]", multiple=True, help="Value of an ARG")
@click.option("--label", "labels", metavar="KEY[=VALUE]", multiple=True, help="Label of the image")
@click.option("--target", default="", metavar="STAGE", help="The stage to build (default: the last)")
@click.option("--platform", default="", metavar="OS/ARCH", help="Platform of the image (default: the node's)")
@click.option(
    "--secret", "secrets", metavar="id=ID[,src=FILE|env=NAME]", multiple=True, help="A secret for RUN"
)
@click.option("--network", default="default", metavar="MODE", help="For RUN: default, none or host")
@switch("--no-cache", text="Carry out every step")
@click.option("--no-cache-filter", metavar="STAGE", multiple=True, help="Carry out every step of a stage")
@click.option("--cache-from", metavar="type=local,src=DIR", multiple=True, help="Build cache to begin with")
@click.option(
    "--cache-to", metavar="type=local,dest=DIR", multiple=True, help="Where to write the build cache"
)
@switch("--pull", text="Ask the registry for newer base images")
@switch("--push", text="Push the image to its registry")
@click.option("--progress", type=click.Choice(_PROGRESS), default="auto", help="How it is shown")
@switch("-q", "--quiet", text="Print only the image's ID")
@click.option("--iidfile", metavar="FILE", help="Write the image's ID there")
@switch("--check", text="Only look at the Dockerfile")
@click.argument("context", metavar="PATH|URL|-")
def build(context: str, dockerfile: str | None, **said: Any) -> None:
    """Build an image from a Dockerfile."""
    from swarmd.cli.build_cache import directories, give, take
    from swarmd.cli.build_context import BuildContext, memory_of
    from swarmd.cli.build_registries import logins_for, push
    from swarmd.cli.build_source import source

    quiet = bool(said["quiet"])
    with source(context, dockerfile) as found, session.open_client() as client:
        memory = memory_of(found.top) if found.top is not None else None
        files = BuildContext(found.top, found.ignore, session.now(), memory)
        options = _options(said)
        options.dockerfile, options.dockerfile_name = found.dockerfile, found.name
        options.ignore.extend(files.patterns)
        options.logins.extend(logins_for(found.dockerfile))
        take(client, directories(said["cache_from"], "src"))
        talk = _Talk(options, files, _show("quiet" if quiet else said["progress"]))
        done = talk.hold(client)
        give(client, directories(said["cache_to"], "dest"))
        if said["push"]:
            push(client, options.tags, quiet=quiet)
    if options.check:
        _tell_check(talk.warnings)
        return
    if talk.warnings and not quiet:
        session.warn(
            "\n".join([f" {_counted(talk.warnings)} found:", *(f" - {one}" for one in talk.warnings)])
        )
    if said["iidfile"]:
        Path(said["iidfile"]).write_text(done.id)
    if quiet:
        click.echo(done.id)


class _Talk:
    """One build: the daemon's events to the user, the context's files to the daemon."""

    def __init__(self, options: pb.BuildOptions, files: BuildContext, show: Show) -> None:
        from swarmd.cli.build_show import Steps

        self._options = options
        self._files = files
        self._show = show
        self._steps = Steps()
        self._needed: queue.SimpleQueue[Sequence[int] | None] = queue.SimpleQueue()
        self._problem: CliError | None = None
        self._excerpt = ""
        self.warnings: list[str] = []

    def hold(self, client: Any) -> pb.BuildDone:
        """Until there is an image.  Raises CliError."""
        from swarmd.rpc.v1 import build_pb2 as pb

        done = pb.BuildDone()
        name = self._options.dockerfile_name
        sent = [f"transferring dockerfile: {len(self._options.dockerfile)}B done"]
        if not self._options.check:
            self._show.note(f"[internal] load build definition from {name}", sent, 0.0)
        try:
            with terminal.ending_in_order():
                for event in client.builder.Build(self._messages()):
                    self._see(event)
                    done = event.done if event.WhichOneof("body") == "done" else done
        except CliError:
            self._show.close()
            if self._problem is not None:
                raise self._problem from None
            raise
        finally:
            self._needed.put(None)
        if done.id:
            lines = [f"writing image {done.id} done", *(f"naming to {ref} done" for ref in done.refs)]
            self._show.note("exporting to image", lines, 0.0)
        self._show.close()
        return done

    def _see(self, event: pb.BuildResponse) -> None:
        from swarmd.cli.build_show import failure_text

        kind = event.WhichOneof("body")
        self._steps.see(event)
        self._show.event(event)
        if kind == "needed":
            self._needed.put(event.needed.numbers)
        elif kind == "warning":
            one = event.warning
            self.warnings.append(f"{one.rule}: {one.message} (line {one.line})")
        elif kind == "failure":
            self._problem = CliError(failure_text(event.failure, self._steps))

    def _messages(self) -> Iterator[pb.BuildRequest]:
        """Runs in a thread of gRPC.  What cannot be read here ends the build."""
        from swarmd.rpc.v1 import build_pb2 as pb

        yield pb.BuildRequest(options=self._options)
        try:
            for entries in self._files.entries():
                yield pb.BuildRequest(entries=entries)
            while (numbers := self._needed.get()) is not None:
                for files in self._files.files(numbers):
                    yield pb.BuildRequest(files=files)
        except CliError as error:
            self._problem = error  # the stream ends here, and with it the build


def _counted(warnings: Sequence[str]) -> str:
    return f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}"


def _tell_check(warnings: Sequence[str]) -> None:
    """Raises CliError when there are any."""
    if not warnings:
        click.echo("Check complete, no warnings found.")
        return
    verb = "has" if len(warnings) == 1 else "have"
    click.echo(f"Check complete, {_counted(warnings)} {verb} been found!\n")
    session.fail_if([f"WARNING: {one}" for one in warnings])


def _show(progress: str) -> Show:
    from swarmd.cli import build_show

    def write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()

    if progress == "quiet":
        return build_show.Quiet()
    if progress == "rawjson":
        return build_show.Raw(write)
    if progress == "tty" or (progress == "auto" and terminal.is_terminal(sys.stderr)):
        rows, columns = terminal.size()
        return build_show.Terminal(sys.stderr, columns, rows)
    return build_show.Plain(write)


def _options(said: dict[str, Any]) -> pb.BuildOptions:
    from swarmd.rpc.v1 import build_pb2 as pb

    options = pb.BuildOptions(
        tags=said["tags"],
        build_args=_build_args(said["build_args"]),
        labels=dict(_pair(text) for text in said["labels"]),
        target=said["target"],
        platform=said["platform"],
        no_cache=bool(said["no_cache"]),
        no_cache_filter=[name for text in said["no_cache_filter"] for name in text.split(",")],
        pull=bool(said["pull"]),
        network=said["network"],
        secrets=[_secret(text) for text in said["secrets"]],
        check=bool(said["check"]),
    )
    if said["push"] and not options.tags:
        raise CliError("tag is needed when pushing to registry: give it with --tag")
    return options


def _build_args(texts: Sequence[str]) -> dict[str, str]:
    """``KEY=VALUE``, or ``KEY`` as it is in the environment, if it is."""
    found = {}
    if "SOURCE_DATE_EPOCH" in os.environ:
        found["SOURCE_DATE_EPOCH"] = os.environ["SOURCE_DATE_EPOCH"]
    for text in texts:
        key, equals, value = text.partition("=")
        if equals:
            found[key] = value
        elif key in os.environ:
            found[key] = os.environ[key]
    return found


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _secret(text: str) -> pb.BuildSecret:
    """``id=x,src=FILE``, ``id=x,env=NAME``; without either the variable, else the file, called like it."""
    from swarmd.rpc.v1 import build_pb2 as pb

    fields = dict(_pair(part) for part in text.split(","))
    name = fields.pop("id", "")
    kind = fields.pop("type", "")
    path = fields.pop("src", "") or fields.pop("source", "")
    variable = fields.pop("env", "")
    if not name or fields or kind not in ("", "file", "env"):
        raise CliError(f"invalid secret {text!r}: write id=ID,src=FILE or id=ID,env=NAME")
    if kind == "env" and not variable:
        variable, path = path or name, ""
    if variable or (not path and name in os.environ):
        value = os.environ.get(variable or name)
        if value is None:
            raise CliError(f"invalid secret {text!r}: there is no variable {variable}")
        return pb.BuildSecret(id=name, value=os.fsencode(value))
    try:
        data = Path(path or name).read_bytes()
    except OSError as error:
        raise CliError(f"invalid secret {text!r}: open {path or name}: {error.strerror}") from error
    if len(data) > _MOST_SECRET:
        raise CliError(f"invalid secret {text!r}: it has more than {_MOST_SECRET} bytes")
    return pb.BuildSecret(id=name, value=data)
