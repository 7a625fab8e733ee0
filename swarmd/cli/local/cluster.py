"""What ``swarmctl local`` does to whole clusters, and to single nodes of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from swarmd.cli.local import cgroup, host, network
from swarmd.cli.local.core import hierarchies
from swarmd.cli.local.core.plan import Cluster, Node, check_name, check_size, plan_cluster
from swarmd.cli.local.core.status import State
from swarmd.cli.local.machine import Machine
from swarmd.cli.local.state import Record, Root, choosing_network
from swarmd.cli.local.swarm import Ports, form_swarm, wait_until_ready
from swarmd.cli.local.waiting import side_by_side
from swarmd.model.errors import Conflict, NotFound, Refused, SwarmError, Unavailable

DAEMON = (
    *(sys.executable, "-P", "-m", "swarmd.daemon.main"),
    *("--data-dir", "{data}", "--run-dir", "{run}", "--log-file", "{log}"),
)
_API_SECONDS = 60.0
_READY_SECONDS = 60.0
_TAIL_LINES = 25

Say = Callable[[str], None]


class LocalClusters:
    """The local clusters below one root directory."""

    def __init__(self, root: Root, ports: Ports, *, daemon: Sequence[str] = DAEMON, say: Say = print) -> None:
        self._root = root
        self._api = ports.api
        self._contexts = ports.contexts
        self._daemon = tuple(daemon)
        self._say = say

    def up(self, name: str, *, nodes: int, managers: int) -> Cluster:
        """Make a cluster and wait until all of it is Ready; leaves nothing when that fails.

        Answers the existing cluster when it is of this size and runs; :class:`Conflict` when there is
        another one of that name.
        """
        check_name(name)
        check_size(nodes, managers)
        host.require()
        if name in self._root.names():
            return self._existing(name, nodes=nodes, managers=managers)
        if network.link_exists(f"swl-{name}"):
            raise Conflict(
                f"This machine has a link swl-{name} already, from a cluster with another SWARMD_LOCAL_ROOT "
                "perhaps; choose another --name."
            )
        record = self._planned(name, nodes=nodes, managers=managers)
        with record.lock(), self._removing_on_failure(record):
            self._make(record)
        return record.load()

    def _planned(self, name: str, *, nodes: int, managers: int) -> Record:
        """Its record, and its switch: this machine's routes then tell others which network is taken."""
        with choosing_network():
            routes = network.taken_networks()
            record = self._root.create(
                name,
                lambda others: plan_cluster(
                    name, nodes=nodes, managers=managers, taken=[*routes, *others], daemon=self._daemon
                ),
            )
            with record.lock(), self._removing_on_failure(record):
                network.ensure_switch(record.load(), record.switch)
        return record

    @contextmanager
    def _removing_on_failure(self, record: Record) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._say(f"Removing what there is of {os.path.basename(record.home)} again.")
            self._remove(record)
            raise

    def _existing(self, name: str, *, nodes: int, managers: int) -> Cluster:
        cluster = self._root.record(name).load()
        roles = [node.role for node in cluster.nodes]
        same = cluster.complete and len(roles) == nodes and roles.count("manager") == managers
        states = set(self.states(cluster))
        if same and states == {"running"}:
            self._say(f'The local cluster "{name}" is up already.')
            return cluster
        if same:
            advice = 'see "swarmctl local ls"; "local start" starts what does not run'
        else:
            advice = f'remove it with "swarmctl local down --name {name}" or choose another --name'
        raise Conflict(f'There is a local cluster "{name}" of {len(roles)} nodes already: {advice}.')

    def _make(self, record: Record) -> None:
        cluster = record.load()
        self._say(f"Starting {len(cluster.nodes)} nodes on {cluster.subnet}.")
        machines = [Machine(record, cluster, node.name) for node in cluster.nodes]
        side_by_side(Machine.boot, machines)
        for machine in machines:
            self._wait_for_api(machine)
        self._say("Forming the swarm.")
        socket = machines[0].paths.socket
        try:
            form_swarm(cluster, lambda node: record.paths(node.name).socket, self._api)
            for machine in machines:
                self._contexts.save_context(cluster.context(machine.node), f"unix://{machine.paths.socket}")
            wait_until_ready(cluster, socket, self._api, seconds=_READY_SECONDS)
        except SwarmError as error:
            tails = "\n".join(machine.log_tail(_TAIL_LINES) for machine in machines)
            raise Unavailable(f"The swarm was not formed: {error}\n{tails}") from error
        record.save(msgspec.structs.replace(record.load(), complete=True))

    def _wait_for_api(self, machine: Machine) -> None:
        try:
            self._api.wait_ready(machine.paths.socket, _API_SECONDS)
        except SwarmError as error:
            raise Unavailable(
                f"The daemon of {machine.node.name} does not answer: {error}\n{machine.log_tail(_TAIL_LINES)}"
            ) from error

    def down(self, name: str) -> None:
        """Remove a cluster with everything it has, whatever state it is in; a second time does nothing."""
        check_name(name)
        host.require()
        try:
            record = self._root.record(name)
        except NotFound as error:
            self._say(f"{error} Nothing to do.")
            return
        with record.lock():
            self._remove(record)

    def _remove(self, record: Record) -> None:
        try:
            cluster = record.load()
        except Unavailable:
            cluster = recovered(record)
            record.save(cluster)
        machines = [Machine(record, cluster, node.name) for node in cluster.nodes]
        side_by_side(Machine.power_off, machines)
        network.remove_switch(cluster, record.switch)
        for node in cluster.nodes:
            self._contexts.remove_context(cluster.context(node))
        record.remove()
        self._root.forget_if_empty()

    def clusters(self) -> list[Cluster]:
        """All clusters; says which cannot be read."""
        found = []
        for name in self._root.names():
            try:
                found.append(self._root.record(name).load())
            except SwarmError as error:
                self._say(str(error))
        return found

    def states(self, cluster: Cluster) -> list[State]:
        """What each node does now, in the cluster's order."""
        record = self._root.record(cluster.name)
        return [Machine(record, cluster, node.name).state() for node in cluster.nodes]

    @contextmanager
    def _machine(self, cluster_name: str, node: str) -> Iterator[Machine]:
        host.require()
        record = self._root.record(cluster_name)
        with record.lock():
            yield Machine(record, record.load(), node)

    def stop(self, name: str, node: str) -> None:
        """Orderly off."""
        with self._machine(name, node) as machine:
            machine.require("running", "paused", "cut", why="there is nothing to stop")
            machine.shut_down()

    def start(self, name: str, node: str) -> None:
        """On again, with the same identity and address; returns when the daemon answers."""
        host.require()
        record = self._root.record(name)
        with record.lock():
            cluster = record.load()
            machine = Machine(record, cluster, node)
            machine.require("stopped", "killed", why="it needs no start")
            network.ensure_switch(cluster, record.switch)
            machine.boot()
        self._wait_for_api(machine)

    def kill(self, name: str, node: str) -> None:
        """Power cut."""
        with self._machine(name, node) as machine:
            machine.require("running", "paused", "cut", why="there is nothing to kill")
            machine.power_off()

    def pause(self, name: str, node: str) -> None:
        """Freeze the whole node."""
        with self._machine(name, node) as machine:
            machine.require("running", "cut", why="only a node that runs can be paused")
            machine.pause(paused=True)

    def unpause(self, name: str, node: str) -> None:
        """Let it go on."""
        with self._machine(name, node) as machine:
            machine.require("paused", why="only a paused node can be unpaused")
            machine.pause(paused=False)

    def cut(self, name: str, node: str) -> None:
        """Cut its cable: nothing comes in or goes out."""
        with self._machine(name, node) as machine:
            machine.require("running", "paused", why="only a connected node that runs can be cut off")
            machine.cut(cut=True)

    def heal(self, name: str, node: str) -> None:
        """Mend its cable."""
        with self._machine(name, node) as machine:
            if not machine.node.cut:
                raise Refused(f"The cable of {node} is not cut.")
            machine.require("cut", "paused", why="start it first")
            machine.cut(cut=False)

    def enter(self, name: str, node: str, command: Sequence[str]) -> list[str]:
        """Move this process into the node's cgroups and answer what it has to execute to be in the node."""
        host.require()
        record = self._root.record(name)
        machine = Machine(record, record.load(), node)
        machine.require("running", "cut", why="commands run only in a node that runs")
        cgroup.join(machine.node.cgroups)
        return machine.exec_argv(command)


def recovered(record: Record) -> Cluster:
    """A cluster whose ``cluster.json`` is lost, as far as names tell; enough to remove it."""
    name = os.path.basename(record.home)
    nodes = sorted(entry for entry in os.listdir(record.home) if re.fullmatch(r"node\d+", entry))
    bases = cgroup.bases()
    return Cluster(
        name=name,
        subnet="172.30.0.0/24",
        daemon=(),
        nodes=tuple(
            Node(
                name=node, address="", role="worker", cgroups=hierarchies.node_directories(bases, name, node)
            )
            for node in nodes
        ),
    )
