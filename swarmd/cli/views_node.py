"""Nodes and the daemon in Docker's own JSON shape.  Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swarmd.cli.units import rfc3339
from swarmd.cli.views import meta
from swarmd.cli.views_container import Json, filled

if TYPE_CHECKING:
    from swarmd.rpc.v1 import control_pb2, node_pb2


def node(view: control_pb2.NodeView) -> Json:
    """A node; ``ManagerStatus`` only for managers."""
    it, about = view.node, view.node.description
    out = meta(it) | {
        "Spec": {
            "Labels": dict(it.spec.labels),
            "Role": it.spec.role,
            "Availability": it.spec.availability,
        },
        "Description": {
            "Hostname": about.hostname,
            "Platform": {"Architecture": about.arch, "OS": about.os},
            "Resources": {"NanoCPUs": about.nano_cpus, "MemoryBytes": about.memory},
            "Engine": {"EngineVersion": about.engine_version} | filled(Labels=dict(about.labels)),
            **filled(Runtimes=list(about.runtimes), Devices=list(about.devices)),
            "TLSInfo": filled(
                TrustRoot=view.root_ca.decode("ascii", "replace"),
                CertIssuerKeyID=it.status.certificate.issuer,
                CertExpiry=_time(it.status.certificate.valid_until),
                Status=view.tls_status,
            ),
        },
        **filled(JoinToken=it.join_token),
        "Status": {"State": it.status.state}
        | filled(Message=it.status.message)
        | {"Addr": it.status.address},
    }
    if view.manager_status:
        leader = view.manager_status == "Leader"
        reachability = "reachable" if leader else view.manager_status.lower()
        out["ManagerStatus"] = (
            filled(Leader=leader) | {"Reachability": reachability} | filled(Addr=it.raft_address)
        )
    return out


def _time(seconds: float) -> str:
    return rfc3339(seconds) if seconds else ""


def info(answer: node_pb2.InfoResponse) -> Json:
    """What ``info`` knows of the daemon and its part in the swarm."""
    return {
        "Name": answer.hostname,
        "ServerVersion": answer.version,
        "ContainersRunning": answer.running_containers,
        "Images": answer.images,
        "Swarm": {
            "NodeID": answer.node_id,
            "NodeAddr": answer.node_address,
            "LocalNodeState": answer.swarm_state,
            "ControlAvailable": answer.is_manager,
            "Error": answer.error,
            "RemoteManagers": [{"Addr": address} for address in answer.managers],
            **filled(Cluster=filled(ID=answer.cluster_id)),
            **filled(Group=_group(answer.group) if answer.HasField("group") else None),
        },
        "Warnings": list(answer.warnings),
    }


def _group(group: node_pb2.ManagerGroup) -> Json:
    return {
        "Managers": [
            {
                "NodeID": manager.node_id,
                "Hostname": manager.hostname,
                "Addr": manager.address,
                "Status": manager.status,
            }
            for manager in group.managers
        ],
        "CanLose": group.can_lose,
        "Epoch": group.epoch,
        "Term": group.term,
        "Applied": group.applied,
    }
