"""``swarmd recover`` and ``swarmd raft``: what is done with a manager's state while its daemon is stopped, or
only looks at it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from swarmd.control.snapshots import Contents, unpack
from swarmd.daemon.config import Config
from swarmd.daemon.lock import locked
from swarmd.daemon.ondisk import OnDisk
from swarmd.daemon.requests import listen_address
from swarmd.daemon.tools import show
from swarmd.daemon.tools.anew import Recovery
from swarmd.daemon.tools.backups import BackupFolder, first_line
from swarmd.daemon.tools.vaults import open_vault, unlock
from swarmd.kit.clock import SystemClock
from swarmd.kit.ids import new_id
from swarmd.model.errors import Invalid, Refused, SwarmError
from swarmd.node import addresses
from swarmd.security import passphrase
from swarmd.store.core.invariants import invariants
from swarmd.store.core.transaction import decode_rows
from swarmd.store.raft.reading import Picture, examine, look, replay
from swarmd.store.store import StoreState

_data_dir = click.option("--data-dir", metavar="DIR", help="Instead of the daemon's; a copy will do")
_unlock_key_file = click.option(
    "--unlock-key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With autolock: a file with the unlock key",
)


class Plan(msgspec.Struct, frozen=True):
    """What ``swarmd recover`` is asked to do."""

    data: Path
    advertise_addr: str
    snapshot: Contents | None
    unlock_key_file: Path | None

    def resolve(self, known: str) -> str:
        """The address to use, given the one there was.  The network need not be up: the daemon will look."""
        wanted = self.advertise_addr or known
        try:
            return str(ipaddress.IPv4Address(wanted))
        except ValueError:
            return addresses.resolve(wanted, addresses.interface_addresses())


@click.command("recover")
@click.option("--data-dir", metavar="DIR", help="Instead of the daemon's")
@click.option("--advertise-addr", default="", metavar="IP", help="Address the others reach this node at")
@click.option(
    "--from-snapshot", type=click.Path(path_type=Path), metavar="FILE", help="Go on from a snapshot"
)
@click.option("--passphrase-file", type=click.Path(path_type=Path), metavar="FILE", help="What opens it")
@click.option("--compare", multiple=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Data directory of another manager: say which one knows more")  # fmt: skip
@_unlock_key_file
@click.option("--dry-run", is_flag=True, help="Only say what is there")
@click.pass_obj
def recover(
    config: Config,
    data_dir: str | None,
    advertise_addr: str,
    from_snapshot: Path | None,
    passphrase_file: Path | None,
    compare: tuple[Path, ...],
    unlock_key_file: Path | None,
    dry_run: bool,
) -> None:
    """Make this node the only manager of its swarm, while its daemon is stopped.

    For a swarm that has lost its majority for good, or that is put back to a snapshot.
    """
    with _sentences():
        data = Path(data_dir or config.data_dir)
        snapshot = _snapshot(from_snapshot, passphrase_file)
        if not data.is_dir():
            raise Invalid(f"the data directory {data} does not exist")
        plan = Plan(data, advertise_addr, snapshot, unlock_key_file)
        if dry_run:
            _look_around(plan, compare)
            click.echo("Nothing was changed.")
            return
        with locked(data):
            _look_around(plan, compare)
            asyncio.run(_recover(plan, config))


def _snapshot(path: Path | None, passphrase_file: Path | None) -> Contents | None:
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    if passphrase.is_sealed(data):
        if passphrase_file is None:
            raise Invalid(f"{path} is sealed: give its passphrase with --passphrase-file")
        data = passphrase.unseal(data, first_line(passphrase_file, "passphrase"), str(path))
    return unpack(data, str(path))


def _look_around(plan: Plan, others: tuple[Path, ...]) -> None:
    """Say what there is.  Raises Refused when another directory knows more than the one to go on from."""
    data, snapshot, key = plan.data, plan.snapshot, plan.unlock_key_file
    own = _standing(data, key, damage_is_told=snapshot is not None) if (data / "raft").exists() else None
    if own is not None:
        _print(show.standing_lines(own))
    if snapshot is not None:
        header = snapshot.header
        click.echo(f"The snapshot: swarm {header.cluster_id}, epoch {header.epoch}, change {header.index}")
        for kind, count in sorted(header.counts.items()):
            click.echo(f"  {count} {kind}")
    if not others:
        return
    found = [one for one in (own, *(_standing(other, key) for other in others)) if one is not None]
    if not found:
        raise Refused(f"none of {', '.join(map(str, (data, *others)))} holds the state of a manager")
    _print(show.comparison(found))
    best = max(found, key=lambda one: one.position)
    if snapshot is None and (own is None or best.position > own.position):
        raise Refused(
            f"{best.name} knows more than {data}: go on from there, or leave --compare out to give up what "
            "only it knows"
        )


def _standing(
    data: Path, unlock_key_file: Path | None, *, damage_is_told: bool = False
) -> show.Standing | None:
    """``damage_is_told``: what is damaged is put aside anyway, so it is no reason to stop."""
    picture = _look(data, unlock_key_file)
    if not picture.problems:
        return show.standing(str(data), picture)
    if damage_is_told:
        click.echo(picture.problems[0].text)
        return None
    raise Invalid(
        f"{picture.problems[0].text} Or bring the swarm back from a snapshot: "
        "`swarmd recover --from-snapshot FILE`."
    )


async def _recover(plan: Plan, config: Config) -> None:
    disk = OnDisk(plan.data)
    if disk.vault.exists:
        unlock(disk.vault, plan.data, plan.unlock_key_file)
    folder = BackupFolder(plan.data, config.backup)
    recovery = Recovery(plan.data, disk, folder, SystemClock(), new_id)
    if plan.snapshot is None:
        memory = await recovery.begin_anew(plan.resolve)
    elif disk.load() is not None:
        memory = await recovery.put_back(plan.snapshot, plan.resolve)
    else:
        address, listen = plan.resolve(""), listen_address("")
        _, memory = await recovery.restore(plan.snapshot, address=address, listen=listen)
    click.echo(
        f"This node ({memory.node_id}) is now the only manager of swarm {memory.cluster_id}, "
        f"at {memory.address}. Start its daemon; then add managers with the token of "
        "`swarmctl swarm join-token manager`."
    )
    if folder.names():
        click.echo(f"What was here before is kept below {folder.directory}.")


@click.group("raft")
def raft() -> None:
    """Look at a manager's log and snapshots; changes nothing."""


@raft.command("dump")
@_data_dir
@_unlock_key_file
@click.option("--entries", is_flag=True, help="The entries of the logs too: what they change, no values")
@click.option("--json", "as_json", is_flag=True, help="Print JSON")
@click.pass_obj
def dump(
    config: Config, data_dir: str | None, unlock_key_file: Path | None, entries: bool, as_json: bool
) -> None:
    """Show epochs, members, snapshots and logs."""
    with _sentences():
        picture = _look(Path(data_dir or config.data_dir), unlock_key_file)
        if as_json:
            click.echo(json.dumps(show.dump_data(picture, entries=entries), indent=2))
        else:
            _print(show.dump_lines(picture, entries=entries))


@raft.command("verify")
@_data_dir
@_unlock_key_file
@click.pass_obj
def verify(config: Config, data_dir: str | None, unlock_key_file: Path | None) -> None:
    """Check every file, that they fit together, and where they lead; exits with 1 when something is wrong.

    May be run while the daemon works.
    """
    with _sentences():
        picture = _look(Path(data_dir or config.data_dir), unlock_key_file)
        wrong = [problem.text for problem in examine(picture, StoreState, same_rows)]
        wrong = wrong or _broken_rules(picture)
    for text in wrong:
        click.echo(text, err=True)
    if wrong:
        sys.exit(1)
    click.echo(_verdict(picture))


def _broken_rules(picture: Picture) -> list[str]:
    """What is not true of the state that whole files lead to, though it must be of every swarm's."""
    state = StoreState()
    if picture.newest is not None:
        replay(picture.newest.base, picture.chain, state)
    return [
        f"The state in {picture.directory} breaks a rule of the store: {rule}. The files are whole, and "
        "every manager has the same state: this is a defect of swarmd. Save a snapshot and report it."
        for rule in invariants(state.tables)
    ]


def _verdict(picture: Picture) -> str:
    if picture.newest is None:
        return f"{picture.directory} holds no manager's state."
    entries = sum(len(log.entries) for log in picture.logs.values())
    torn = [log for log in picture.logs.values() if log.size > log.good_bytes]
    text = (
        f"{picture.directory} is in order: {len(picture.bases)} snapshots, {len(picture.logs)} logs with "
        f"{entries} entries."
    )
    return (
        text if not torn else f"{text} A write that was cut short ends {torn[-1].path.name}: it is harmless."
    )


def same_rows(one: bytes, other: bytes) -> bool:
    """Whether two states of the store are equal: rows may come in any order, and so may labels in a row."""
    return _by_id(one) == _by_id(other)


def _by_id(state: bytes) -> tuple[int, dict[tuple[str, str], object]]:
    index, rows = decode_rows(state)
    return index, {(type(row).__name__, row.id): row for row in rows}


def _look(data: Path, unlock_key_file: Path | None) -> Picture:
    raft = _raft_directory(data)
    return look(raft, open_vault(raft.parent, unlock_key_file))


def _raft_directory(data: Path) -> Path:
    """``data`` may be a data directory, or the ``raft`` in it."""
    inner = data / "raft"
    if inner.is_dir():
        return inner
    if data.is_dir() and any(data.glob("base-*.snapshot")):
        return data
    raise Invalid(f"{data} holds no manager's state: it has no directory raft")


def _print(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Our errors as sentences on standard error, exit code 1."""
    try:
        yield
    except SwarmError as error:
        raise click.ClickException(str(error)) from error
