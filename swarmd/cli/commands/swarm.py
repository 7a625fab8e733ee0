"""``swarmctl swarm``: init, join, join-token, update, leave; others in modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from swarmd.cli.files import read_pem
from swarmd.cli.grammar import Command, Group, Parsed, switch
from swarmd.cli.session import open_client, warn_all
from swarmd.cli.spec_text import parse_count
from swarmd.cli.units import parse_duration

if TYPE_CHECKING:
    from swarmd.cli.client import Client
    from swarmd.rpc.v1 import node_pb2, types_pb2

MANAGER_PORT = 2377
_DURATION = Parsed("duration", parse_duration)
_COUNT = Parsed("int", parse_count)
F = TypeVar("F", bound=Callable[..., Any])


_UNLOCKING = "swarmd.cli.commands.swarm_unlock"


def _settings(command: F) -> F:
    """The flags of ``init`` and ``update``; None where a setting is not given."""
    for option in (
        click.option("--task-history-limit", type=_COUNT, help="Old tasks kept a slot (default 5)"),
        click.option("--dispatcher-heartbeat", type=_DURATION, help="How often nodes report (default 5s)"),
        click.option("--cert-expiry", type=_DURATION, help="How long certificates are valid (default 2160h)"),
        switch("--autolock", text="Managers that restart wait for a key (default false)"),
        click.option(
            "--default-addr-pool",
            metavar="CIDR",
            multiple=True,
            callback=lambda context, option, value: pools_of(value) or None,
            help="Where networks without a subnet get theirs from (default 10.0.0.0/9)",
        ),
        click.option(
            "--default-addr-pool-mask-length", type=_COUNT, help="Length of such a subnet (default 24)"
        ),
    ):
        command = option(command)
    return command


@click.group(
    "swarm",
    cls=Group,
    lazy={
        "audit": "swarmd.cli.commands.audit:audit",
        "ca": "swarmd.cli.commands.swarm_ca:ca",
        "token": "swarmd.cli.commands.token:group",
        "unlock": f"{_UNLOCKING}:unlock",
        "unlock-key": f"{_UNLOCKING}:unlock_key",
    },
)
def group() -> None:
    """Manage the swarm."""


@group.command("init", cls=Command)
@click.option(
    "--advertise-addr", metavar="IP[:PORT]", default="", help="Address the others reach this node at"
)
@click.option("--listen-addr", metavar="IP[:PORT]", default="", help="Address to listen on")
@click.option(
    "--availability", metavar="active|pause|drain", default="active", help="Availability of this node"
)
@_settings
@click.option("--ca-cert", metavar="FILE", default="", help="Begin with this root CA certificate (PEM)")
@click.option("--ca-key", metavar="FILE", default="", help="The private key of that certificate (PEM)")
@switch("--force-new-cluster", text="Go on with the swarm this manager is in, as its only manager")
@switch("--force", text="With --force-new-cluster: also while a majority of the managers can be reached")
def init(
    advertise_addr: str,
    listen_addr: str,
    availability: str,
    ca_cert: str,
    ca_key: str,
    force_new_cluster: bool | None,
    force: bool | None,
    **settings: Any,
) -> None:
    """Initialize a swarm."""
    from swarmd.model.spec import ClusterSpec
    from swarmd.rpc import codec
    from swarmd.rpc.v1 import node_pb2, types_pb2

    wanted = types_pb2.ClusterSpec()
    codec.fill(wanted, ClusterSpec())
    change_settings(wanted, settings)
    request = node_pb2.InitSwarmRequest(
        advertise_addr=advertise_addr,
        listen_addr=listen_addr,
        availability=availability,
        heartbeat=wanted.heartbeat,
        task_history=wanted.task_history,
        certificate_expiry=wanted.certificate_expiry,
        autolock=wanted.autolock,
        address_pools=wanted.address_pools,
        subnet_size=wanted.subnet_size,
        ca_cert=read_pem(ca_cert),
        ca_key=read_pem(ca_key),
        force_new_cluster=bool(force_new_cluster),
        force=bool(force),
    )
    with open_client() as client:
        answer = client.node.InitSwarm(request)
    click.echo(_begun_text(answer, anew=bool(force_new_cluster)))
    if answer.unlock_key:
        click.echo(unlock_text(answer.unlock_key))


def _begun_text(answer: node_pb2.InitSwarmResponse, *, anew: bool) -> str:
    begun = "Swarm begun anew" if anew else "Swarm initialized"
    is_now = "its only manager" if anew else "a manager"
    return (
        f"{begun}: current node ({answer.node_id}) is now {is_now}.\n\n"
        f"{join_text('worker', answer.worker_token, answer.address)}\n"
        "To add a manager to this swarm, run 'swarmctl swarm join-token manager' "
        "and follow the instructions.\n"
    )


@group.command("join", cls=Command)
@click.option("--token", default="", help="Token for entry into the swarm")
@click.option(
    "--advertise-addr", metavar="IP[:PORT]", default="", help="Address the others reach this node at"
)
@click.option("--listen-addr", metavar="IP[:PORT]", default="", help="Address to listen on")
@click.option(
    "--availability",
    metavar="active|pause|drain",
    default="",
    help="Availability of this node (default: what the token says)",
)
@click.argument("remote", metavar="HOST:PORT")
def join(token: str, advertise_addr: str, listen_addr: str, availability: str, remote: str) -> None:
    """Join a swarm as a node and/or manager."""
    from swarmd.rpc.v1 import node_pb2

    request = node_pb2.JoinSwarmRequest(
        token=token,
        remote_addrs=[with_port(remote)],
        advertise_addr=advertise_addr,
        listen_addr=listen_addr,
        availability=availability,
    )
    with open_client() as client:
        answer = client.node.JoinSwarm(request)
    click.echo(f"This node joined a swarm as a {answer.role}.")
    warn_all(answer.warnings)


@group.command("join-token", cls=Command)
@switch("--rotate", text="Make a new token; the old one is dead at once")
@switch("-q", "--quiet", text="Only show the token")
@click.argument("role", metavar="(worker|manager)")
def join_token(rotate: bool | None, quiet: bool | None, role: str) -> None:
    """Manage join tokens."""
    from swarmd.rpc.v1 import control_pb2

    if role not in ("worker", "manager"):
        raise click.UsageError(f"unknown role {role}: write worker or manager")
    with open_client() as client:
        if rotate:
            token = client.control.RotateToken(control_pb2.RotateTokenRequest(role=role)).token
        else:
            cluster = client.control.GetCluster(control_pb2.GetClusterRequest())
            token = cluster.worker_token if role == "worker" else cluster.manager_token
        if quiet:
            click.echo(token)
            return
        address = join_address(client)
    if rotate:
        click.echo(f"Successfully rotated {role} join token.\n")
    click.echo(join_text(role, token, address))


@group.command("update", cls=Command)
@_settings
def update(**settings: Any) -> None:
    """Update the swarm."""
    from swarmd.rpc.v1 import control_pb2

    context = click.get_current_context()
    if all(value is None for value in settings.values()):
        click.echo(context.get_help())
        return
    with open_client() as client:
        cluster = client.control.GetCluster(control_pb2.GetClusterRequest())
        was_locked = cluster.spec.autolock
        change_settings(cluster.spec, settings)
        client.control.UpdateCluster(
            control_pb2.UpdateClusterRequest(version=cluster.version, spec=cluster.spec)
        )
        click.echo("Swarm updated.")
        if cluster.spec.autolock and not was_locked:
            answer = client.control.GetUnlockKey(control_pb2.GetUnlockKeyRequest())
            click.echo(unlock_text(answer.unlock_key))


@group.command("leave", cls=Command)
@switch("-f", "--force", text="Leave even if that costs the swarm its managers")
def leave(force: bool | None) -> None:
    """Leave the swarm."""
    from swarmd.rpc.v1 import node_pb2

    with open_client() as client:
        client.node.LeaveSwarm(node_pb2.LeaveSwarmRequest(force=bool(force)))
    click.echo("Node left the swarm.")


def join_address(client: Client) -> str:
    """Where others reach the manager that answers."""
    from swarmd.rpc.v1 import control_pb2, node_pb2

    info = client.node.Info(node_pb2.InfoRequest())
    me = client.control.GetNode(control_pb2.GetNodeRequest(ref=info.node_id)).node.node
    return me.raft_address or info.node_address


def join_text(role: str, token: str, address: str) -> str:
    """The command other machines run; ends with an empty line."""
    return (
        f"To add a {role} to this swarm, run the following command:\n\n"
        f"    swarmctl swarm join --token {token} {with_port(address)}\n"
    )


def with_port(address: str) -> str:
    """``address`` with the managers' port when it has none."""
    if address.count(":") > 1 and not address.startswith("["):
        address = f"[{address}]"
    _, _, after = address.rpartition("]")
    return address if ":" in after else f"{address}:{MANAGER_PORT}"


def change_settings(spec: types_pb2.ClusterSpec, settings: Mapping[str, Any]) -> None:
    """Write the flags that were given into ``spec``."""
    fields = {
        "cert_expiry": "certificate_expiry",
        "dispatcher_heartbeat": "heartbeat",
        "task_history_limit": "task_history",
        "autolock": "autolock",
        "default_addr_pool_mask_length": "subnet_size",
    }
    for flag, field in fields.items():
        if settings[flag] is not None:
            setattr(spec, field, settings[flag])
    if settings["default_addr_pool"] is not None:
        spec.address_pools[:] = settings["default_addr_pool"]


def pools_of(values: Sequence[str]) -> list[str]:
    """Prefixes of a flag that is repeated, or holds several with commas between them."""
    return [one.strip() for value in values for one in value.split(",") if one.strip()]


def unlock_text(key: str) -> str:
    """What an operator is told once: how to unlock, and the key; ends with an empty line."""
    return (
        "To unlock a swarm manager after it restarts, run the `swarmctl swarm unlock`\n"
        "command and provide the following key:\n\n"
        f"    {key}\n\n"
        "Please remember to store this key in a password manager, since without it you\n"
        "will not be able to restart the manager.\n"
    )
