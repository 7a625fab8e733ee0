"""The local cluster's ports, made of swarmctl's own client and contexts.

``ls`` and ``exec`` make the ports too, so the client is imported by the calls that need it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from swarmd.cli import context
from swarmd.cli.errors import CliError, Unreachable
from swarmd.cli.local.core.plan import Role
from swarmd.cli.local.swarm import Ports
from swarmd.model.errors import SwarmError, Unavailable

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import control_pb2

_POLL = 0.05


class DaemonApi:
    """:class:`swarmd.cli.local.swarm.ClusterApi` over the nodes' sockets."""

    def wait_ready(self, socket: str, timeout: float) -> None:
        from swarmd.rpc.v1 import node_pb2

        deadline = time.monotonic() + timeout
        while True:
            try:
                with _client(socket) as client:
                    client.node.Info(node_pb2.InfoRequest(), timeout=5)
                return
            except Unavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL)  # noqa: TID251 - the daemon cannot tell that it is not there yet

    def init(self, socket: str, advertise_addr: str) -> None:
        from swarmd.rpc.v1 import node_pb2

        with _client(socket) as client:
            client.node.InitSwarm(node_pb2.InitSwarmRequest(advertise_addr=advertise_addr))

    def join_token(self, socket: str, role: Role) -> str:
        from swarmd.rpc.v1 import control_pb2

        with _client(socket) as client:
            answer = client.control.GetCluster(control_pb2.GetClusterRequest())
        return str(answer.manager_token if role == "manager" else answer.worker_token)

    def join(self, socket: str, token: str, remote_addr: str, advertise_addr: str) -> None:
        from swarmd.rpc.v1 import node_pb2

        with _client(socket) as client:
            client.node.JoinSwarm(
                node_pb2.JoinSwarmRequest(
                    token=token, remote_addrs=[remote_addr], advertise_addr=advertise_addr
                )
            )

    def nodes(self, socket: str) -> list[tuple[str, str]]:
        from swarmd.rpc.v1 import control_pb2

        with _client(socket) as client:
            answer = client.control.ListNodes(control_pb2.ListNodesRequest())
        return [(view.node.description.hostname, _status(view)) for view in answer.nodes]


class ContextStore:
    """:class:`swarmd.cli.local.swarm.Contexts` in swarmctl's own files."""

    def save_context(self, name: str, host: str) -> None:
        context.save_context(name, host)

    def remove_context(self, name: str) -> None:
        with contextlib.suppress(CliError):
            context.remove_context(name)


def make_ports() -> Ports:
    """The real ones."""
    return Ports(DaemonApi(), ContextStore())


def _status(view: control_pb2.NodeView) -> str:
    """As ``node ls`` shows it; a manager that has not joined the others yet is not ready."""
    if view.node.spec.role == "manager" and view.manager_status not in ("Leader", "Reachable"):
        return "Joining the managers"
    return str(view.node.status.state.capitalize())


@contextlib.contextmanager
def _client(socket: str) -> Iterator[Client]:
    from swarmd.cli.client import connect

    try:
        with connect(f"unix://{socket}") as client:
            yield client
    except Unreachable as error:
        raise Unavailable(str(error)) from error
    except CliError as error:
        raise SwarmError(str(error)) from error
