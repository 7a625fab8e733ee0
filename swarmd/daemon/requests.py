"""What users ask of init and join: checked, with defaults; and the first identity of a new swarm."""

from __future__ import annotations

from swarmd.control.cluster import Founding, check_spec
from swarmd.daemon.managing import CLUSTER_PORT
from swarmd.daemon.moving import how_chosen, own_address
from swarmd.daemon.state import NodeMemory
from swarmd.kit.ids import new_id, random_bytes
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.model.spec import ClusterSpec
from swarmd.model.states import Availability, Role
from swarmd.node import addresses
from swarmd.node.agent.core.remotes import Remote
from swarmd.rpc.v1 import node_pb2
from swarmd.security import ca, roots
from swarmd.security.identity import Credentials

DEFAULT_LISTEN = "0.0.0.0"


def root_of(request: node_pb2.InitSwarmRequest, now: float) -> tuple[bytes, bytes]:
    """The root to begin with, certificate and key: the one that was given, or a new one.  Raises Invalid."""
    if bool(request.ca_cert) != bool(request.ca_key):
        raise Invalid("ca-cert and ca-key go together: give both, or neither for a root of the swarm's own")
    if request.ca_cert:
        return roots.given_root(request.ca_cert, request.ca_key, now)
    return ca.new_root(now)


def found(
    address: str,
    spec: ClusterSpec,
    availability: Availability,
    now: float,
    root_and_key: tuple[bytes, bytes],
) -> tuple[Founding, Credentials]:
    """The first rows of a swarm, and the first identity."""
    root, root_key = root_and_key
    founding = Founding(
        cluster_id=new_id(),
        node_id=new_id(),
        address=address,
        root_ca=root,
        ca_key=root_key,
        gossip_key=random_bytes(32),
        unlock_key=random_bytes(32) if spec.autolock else b"",
        availability=availability,
        spec=spec,
    )
    key = ca.new_key()
    certificate = ca.sign(
        ca.new_request(key),
        ca.Identity(founding.node_id, Role.MANAGER, founding.cluster_id),
        root_pem=root,
        root_key_pem=root_key,
        now=now,
        life=spec.certificate_expiry,
    )
    return founding, Credentials(key=key, certificate=certificate, root=root)


def prepared(request: node_pb2.InitSwarmRequest, now: float) -> tuple[Credentials, NodeMemory]:
    """What a node needs to begin a swarm.  Raises Invalid."""
    spec = cluster_spec(request)
    address = own_address(request.advertise_addr)
    founding, credentials = found(
        address, spec, availability_of(request.availability), now, root_of(request, now)
    )
    memory = founder_memory(founding, listen_address(request.listen_addr))
    return credentials, replace(memory, chosen=how_chosen(request.advertise_addr))


def founder_memory(founding: Founding, listen: str) -> NodeMemory:
    """What the first node of a swarm remembers at first."""
    address = founding.address
    return NodeMemory(
        node_id=founding.node_id,
        cluster_id=founding.cluster_id,
        address=address,
        listen=listen,
        availability=founding.availability.value,
        managers=(Remote(founding.node_id, address, f"{address}:{CLUSTER_PORT}"),),
        founding=founding,
    )


def cluster_spec(request: node_pb2.InitSwarmRequest) -> ClusterSpec:
    default = ClusterSpec()
    spec = ClusterSpec(
        task_history=request.task_history if request.HasField("task_history") else default.task_history,
        heartbeat=request.heartbeat or default.heartbeat,
        certificate_expiry=request.certificate_expiry or default.certificate_expiry,
        autolock=request.autolock,
        address_pools=tuple(request.address_pools),
        subnet_size=request.subnet_size,
    )
    check_spec(spec)
    return spec


def availability_of(text: str) -> Availability:
    try:
        return Availability(text or "active")
    except ValueError as error:
        raise Invalid(f'invalid Availability: "{text}": use active, pause or drain') from error


def listen_address(text: str) -> str:
    host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    if port and port != str(CLUSTER_PORT):
        raise Invalid(f'listen-addr "{text}": the cluster port is {CLUSTER_PORT} and cannot be changed')
    if not host:
        return DEFAULT_LISTEN
    known = addresses.interface_addresses()
    if host == DEFAULT_LISTEN:
        return host
    return addresses.resolve(host, known, option="listen-addr")
