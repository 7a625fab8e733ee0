"""Services that share port 80 by host name, on every node, through an update."""

from __future__ import annotations

import http.client
import re
from functools import partial

import pytest

from swarmd.cli.client import connect
from swarmd.model.spec import ContainerSpec, PortSpec, ServiceSpec, TaskTemplate, UpdateConfig
from swarmd.rpc import codec
from swarmd.rpc.v1 import control_pb2
from tests.cluster.lab import Lab
from tests.cluster.visitor import Visitor
from tests.cluster.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def _create(lab: Lab, name: str, host: str, image: str) -> None:
    spec = ServiceSpec(
        name=name,
        replicas=3,
        template=TaskTemplate(container=ContainerSpec(image=image)),
        ports=(PortSpec(target=80, published=80, host=host),),
        update=UpdateConfig(parallelism=1, monitor=1.0),
    )
    request = control_pb2.CreateServiceRequest()
    codec.fill(request.spec, spec)
    with connect(f"unix://{lab.root}/nodes/{lab.name}/node1/run/swarmd.sock") as client:
        client.control.CreateService(request)
    lab.until_running(name, 3)


def _counted(lab: Lab, node: str) -> float:
    """How many connections to the service's port the node has counted."""
    page = lab.inside(node, "curl", "-s", "http://127.0.0.1:9323/metrics").out
    name = re.escape("swarmd_port_connections_total")
    found = re.findall(rf'^{name}{{[^}}]*port="80"[^}}]*service="alone"}} (\S+)$', page, re.MULTILINE)
    return sum(map(float, found))


def _image(lab: Lab, node: str, host: str) -> str:
    try:
        return lab.get(node, 80, host=host).image
    except (OSError, http.client.HTTPException):
        return ""


def test_services_share_a_port_by_host_name_and_an_update_of_one_fails_no_request(lab: Lab) -> None:
    _create(lab, "shop", "shop.example.com", "nginx:1.12")
    _create(lab, "rest", "*.example.com", "nginx:1.13")
    for node in lab.nodes:
        for host, image in (("shop.example.com", "nginx:1.12"), ("other.example.com", "nginx:1.13")):
            eventually(
                f"{node} answers for {host}",
                lambda node=node, host=host: _image(lab, node, host),  # type: ignore[misc]
                lambda found, image=image: found == image,  # type: ignore[misc]
            )
        with pytest.raises(http.client.HTTPException, match="404"):
            lab.get(node, 80, host="example.org")
    refused = lab.on("node1", "service", "create", "--name", "alone", "--publish", "80:80", "nginx:1.12")
    assert refused.code == 1
    assert "port '80' is already in use by service" in refused.err
    with (
        Visitor(lab, 80, ["node2", "node3"], host="shop.example.com") as visitor,
        Visitor(lab, 80, ["node1"], host="other.example.com") as neighbour,
    ):
        eventually("the visitor is served", lambda: len(visitor.images), lambda count: count >= 20)
        lab.ask("service", "update", "--image", "nginx:1.13", "shop")
        eventually("the visitor sees the new version", lambda: "nginx:1.13" in visitor.images)
    assert visitor.failures == [], f"{len(visitor.failures)} of {len(visitor.images)} requests failed"
    assert neighbour.failures == []
    assert set(neighbour.images) == {"nginx:1.13"}
    lab.ask("service", "rm", "shop", "rest")
    lab.create("alone", "--publish", "80:80")
    lab.until_running("alone", 1)
    lab.until_answered(80)
    for node in lab.nodes:
        before = _counted(lab, node)
        lab.get(node, 80)
        eventually("the connection is counted", partial(_counted, lab, node), lambda now: now > before)  # noqa: B023
