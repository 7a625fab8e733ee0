"""Which network the commands of a build have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from swarmd.image.build.core.graph import Run
from swarmd.model.errors import Refused, Unavailable
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.building.running import Place, Runner
from swarmd.node.runtime.port import ContainerConfig


class Noting:
    """A runtime that notes what it is to run, and runs nothing."""

    def __init__(self) -> None:
        self.modes: list[str] = []

    async def create(self, config: ContainerConfig) -> int:
        self.modes.append(config.network_mode)
        raise Unavailable("nothing is run here")


async def _mode(base: Path, step: str, build: str, *, in_swarm: bool) -> str:
    facts = NodeFacts(node_id="", hostname="n1", resolv_conf="", os="linux", arch="x86_64")
    runtime, lower = Noting(), base / "lower"
    lower.mkdir()
    network = cast(Any, object()) if in_swarm else None
    runner = Runner(cast(Any, runtime), base / "containers", lambda: network, lambda: facts, lambda: "c1")
    place = Place(upper=base / "upper", lowers=(lower,))
    with pytest.raises(Unavailable, match="nothing is run"):
        await runner.run(Run(args=("true",), network=step), place, lambda stream, data: None, network=build)
    return runtime.modes[0]


@pytest.mark.parametrize(
    ("step", "build", "in_swarm", "mode"),
    [
        ("default", "default", True, ""),
        ("default", "host", True, "host"),
        ("default", "none", True, "none"),
        ("none", "host", True, "none"),
        ("host", "host", True, "host"),
        ("default", "default", False, "host"),
        ("host", "default", False, "host"),
    ],
)
async def test_a_command_has_the_network_it_says_or_that_of_its_build(
    tmp_path: Path, step: str, build: str, in_swarm: bool, mode: str
) -> None:
    assert await _mode(tmp_path, step, build, in_swarm=in_swarm) == mode


@pytest.mark.parametrize(("build", "in_swarm"), [("default", True), ("none", True), ("none", False)])
async def test_a_dockerfile_alone_does_not_get_the_network_of_the_node(
    tmp_path: Path, build: str, in_swarm: bool
) -> None:
    with pytest.raises(Refused, match="--network=host is not granted"):
        await _mode(tmp_path, "host", build, in_swarm=in_swarm)
