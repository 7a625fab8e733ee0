"""One run: a swarm, clients, faults after a schedule, and the judgement.

up ─► clients ═══════════════════════════════╗ stop ─► read all through all ─► power cut of all ─► again
        └─► fault ─► undo ─► healed? ─► rest ─┘            ─► each leads once: the same content? ─► judge
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import msgspec

from tests.nemesis import report
from tests.nemesis.clients import Clients
from tests.nemesis.faults import inflict
from tests.nemesis.history import History
from tests.nemesis.manager import CallFailed
from tests.nemesis.plan import Fault, Kind, schedule
from tests.nemesis.report import Finding, Inflicted
from tests.nemesis.site import NotHealed, Site

CLIENTS = 6
HEAL_SECONDS = 30.0
NOTABLE_SECONDS = 4.0
"""A healing that takes longer is reported with what it waited for."""

LEAD_ATTEMPTS = 20
HAND_OVER_SECONDS = 1.5
READ_ATTEMPTS = 5


class Settings(msgspec.Struct, frozen=True):
    """``seconds`` is how long faults are begun; the end takes about half a minute more."""

    seed: int
    seconds: float
    managers: int
    kinds: tuple[Kind, ...]


class Result(msgspec.Struct, frozen=True):
    """``logs`` is where the nodes' logs were kept: only after a violation."""

    findings: tuple[Finding, ...]
    inflicted: tuple[Inflicted, ...]
    history: History
    logs: Path | None

    def lines(self) -> list[str]:
        """The whole report; the last line is the verdict."""
        lines = report.figures(self.history, self.inflicted)
        for finding in self.findings:
            lines += ["", *finding.lines(self.history.origin)]
        lines.append("")
        if self.findings:
            lines.append(f"the nodes' logs and the history are in {self.logs}")
        count = len(self.history.operations)
        what = f"{len(self.findings)} VIOLATIONS" if self.findings else "no violation"
        return [*lines, f"{what} in {count} operations under {len(self.inflicted)} faults"]


class Run:
    """What happens between up and down."""

    def __init__(self, site: Site, history: History, settings: Settings, say: Callable[[str], None]) -> None:
        self._site = site
        self._history = history
        self._settings = settings
        self._say = say
        self.inflicted: list[Inflicted] = []
        self.findings: list[Finding] = []

    async def go(self) -> None:
        """Everything; what is wrong beside the history is in ``findings`` afterwards."""
        self._site.connect()
        clients = Clients(self._history, self._site.managers, self._settings.seed)
        try:
            await self._site.healed(HEAL_SECONDS)
            async with asyncio.TaskGroup() as group:
                group.create_task(clients.prepare())
                for number in range(CLIENTS):
                    group.create_task(clients.work(f"c{number}"))
                try:
                    await self._faults()
                finally:
                    clients.stop.set()
            await self._end(clients)
        except* NotHealed as errors:
            self.findings += [Finding(str(error)) for error in errors.exceptions]
        finally:
            await self._site.close()

    async def _faults(self) -> None:
        settings = self._settings
        began = self._history.now()
        for fault in schedule(settings.seed, self._site.nodes, settings.seconds, settings.kinds):
            wait = began + fault.at - self._history.now()
            await asyncio.sleep(max(wait, 0.0))
            if self._history.now() - began > settings.seconds:
                break
            await self._inflict(fault, began)
            await asyncio.sleep(fault.rest)

    async def _inflict(self, fault: Fault, origin: float) -> None:
        start = self._history.now()
        try:
            whom = await inflict(self._site, fault)
            undone = self._history.now()
            took = await self._heal(fault, undone)
        except NotHealed as error:
            raise NotHealed(f"after {fault.line().strip()}: {error}") from error
        self.inflicted.append(Inflicted(fault, whom, start, undone, self._history.now()))
        waited = f"; last: {self._site.obstacle}" if took > NOTABLE_SECONDS else ""
        line = f"{fault.kind} {fault.target} = {whom}, healed after {took:.1f} s{waited}"
        self._say(f"{start - origin:7.1f}  {line}")

    async def _heal(self, fault: Fault, undone: float) -> float:
        """Seconds until all was whole again; too many are a finding, after thrice as many the run is over."""
        try:
            return await self._site.healed(HEAL_SECONDS)
        except NotHealed as error:
            self.findings.append(Finding(f"after {fault.line().strip()}: {error}"))
            await self._site.healed(2 * HEAL_SECONDS)
        return self._history.now() - undone

    # -- the end -------------------------------------------------------------------------------------

    async def _end(self, clients: Clients) -> None:
        await self._read_all(clients, "end")
        nodes = self._site.nodes
        for node in nodes:
            await self._site.local("kill", node)
        for node in nodes:
            await self._site.local("start", node)
        await self._site.healed(HEAL_SECONDS)
        await self._read_all(clients, "last")
        await self._compare()

    async def _read_all(self, clients: Clients, client: str) -> None:
        """Every register and the set, through every manager."""
        for node in self._site.nodes:
            for key in clients.labelled:
                await self._answered(node, partial(clients.read, client, key, at=node))
            await self._answered(node, partial(clients.list, client, at=node))

    async def _answered(self, node: str, ask: Callable[[], Awaitable[bool]]) -> None:
        """Ask until it is answered: where no core is to spare, leaders are lost again now and then."""
        for _ in range(READ_ATTEMPTS):
            if await ask():
                return
            await self._site.healed(HEAL_SECONDS)
        raise NotHealed(f"{node} does not answer reads, although nothing is wrong any more")

    async def _compare(self) -> None:
        """Each manager's own content, seen while it leads."""
        seen: dict[str, str] = {}
        for _ in range(LEAD_ATTEMPTS):
            await self._site.healed(HEAL_SECONDS)
            leader = await self._site.leader()
            if leader:
                seen[leader] = await self._content(leader)
            if len(seen) == len(self._site.nodes):
                break
            if leader:
                await self._hand_over(leader, seen.keys() - {leader})
        missing = sorted(set(self._site.nodes) - seen.keys())
        if missing:
            self._say(f"compared without {', '.join(missing)}: never led in {LEAD_ATTEMPTS} hand-overs")
        if len(set(seen.values())) > 1:
            self.findings.append(Finding(f"the managers do not store the same: {seen}"))

    async def _hand_over(self, leader: str, seen: Collection[str]) -> None:
        """To one that was not yet seen leading: the others are held, so that they lack the last write."""
        for node in seen:
            await self._site.signal(node, "STOP")
        try:
            with contextlib.suppress(CallFailed):  # more than a minority is held
                await self._site.managers[leader].label(leader, "handed-on", str(self._history.now()))
            await self._site.signal(leader, "TERM")
            await asyncio.sleep(HAND_OVER_SECONDS)
        finally:
            for node in seen:
                await self._site.signal(node, "CONT")

    async def _content(self, node: str) -> str:
        services = await self._site.managers[node].services()
        rows = sorted(each.SerializeToString(deterministic=True) for each in services)
        return f"{len(rows)} services, {hashlib.sha256(b''.join(rows)).hexdigest()[:16]}"


def run(settings: Settings, say: Callable[[str], None] = print) -> Result:
    """Make the swarm, run, judge, remove everything."""
    history = History(time.monotonic)
    site = Site(settings.managers, time.monotonic, clocks="clock" in settings.kinds)
    keep: Path | None = None
    try:
        site.up()
        history.origin = time.monotonic()
        doing = Run(site, history, settings, say)
        asyncio.run(doing.go())
        crashed = [Finding(f"a daemon crashed: {each}") for each in site.crashes()]
        found = (*doing.findings, *crashed, *report.findings(history))
        if found:
            keep = Path(tempfile.mkdtemp(prefix="nemesis-"))
            _write_down(keep, history, doing.inflicted)
    except BaseException:
        keep = Path(tempfile.mkdtemp(prefix="nemesis-"))
        say(f"the nodes' logs are in {keep}")
        raise
    finally:
        site.down(keep)
    return Result(found, tuple(doing.inflicted), history, keep)


def _write_down(directory: Path, history: History, inflicted: Sequence[Inflicted]) -> None:
    lines = [each.line(history.origin) for each in history.operations]
    (directory / "history.txt").write_text("\n".join(lines) + "\n")
    (directory / "faults.json").write_bytes(msgspec.json.encode(inflicted))


__all__ = ["CallFailed", "Result", "Settings", "run"]
