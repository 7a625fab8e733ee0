"""What a manager takes a node can make: a spec that was not refused becomes a bundle, whatever it says."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from swarmd.control.core import validate
from swarmd.image.core.config import ImageConfig
from swarmd.model.errors import Invalid
from swarmd.model.replace import replace
from swarmd.model.spec import (
    ContainerSpec,
    DeviceSpec,
    MountSpec,
    Resources,
    ServiceSpec,
    TaskTemplate,
    UlimitSpec,
)
from swarmd.node.agent.core import container, mounts
from swarmd.node.agent.core.container import NodeFacts
from swarmd.node.agent.core.mounts import Source
from swarmd.node.runtime.core import limit_checks
from swarmd.node.runtime.core.bundle import bundle
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.validate import validate as check
from tests.unit.test_agent_cores import record

FACTS = NodeFacts("node1", "host", "nameserver 192.0.2.1\n")
HOST = HostFacts(cgroup_mounts=("v2",), init_path="/usr/bin/tini-static")
LAYOUT = Layout(bundle="/c", root="/c/root", upper="/c/upper", work="/c/work", files="/c/files")
MB = 1 << 20

some = st.sampled_from


def few(one: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(one, max_size=2).map(tuple)


TARGETS = some(["/a", "/a/b/", "/{{.Node.Hostname}}", "//etc", "/procs", "/x/../sys"])
MOUNTS = st.one_of(
    st.builds(
        MountSpec, kind=st.just("bind"), source=some(["/a", "/{{.Task.Name}}"]), target=TARGETS,
        readonly=st.booleans(), propagation=some(["", "rslave", "rprivate"]),
        recursive=some(["", "disabled", "writable", "readonly"]), create_source=st.booleans(),
    ),
    st.builds(
        MountSpec, source=some(["", "data", "{{.Task.Name}}"]), target=TARGETS, readonly=st.booleans(),
        no_copy=st.booleans(), subpath=some(["", "x/y", "./x"]),
    ),
    st.builds(
        MountSpec, kind=st.just("tmpfs"), target=TARGETS, tmpfs_size=some([0, 4096]),
        tmpfs_options=few(some(["noexec", "nr_inodes=5", "ro"])),
    ),
    st.builds(
        MountSpec, kind=st.just("image"), source=st.just("busybox:1"), target=TARGETS,
        subpath=some(["", "x/y"]),
    ),
)  # fmt: skip
CONTAINERS = st.builds(
    ContainerSpec,
    image=st.just("demo:1"),
    args=few(st.text("ab -", max_size=3)),
    env=few(some(["A=1", "B={{.Task.Slot}}", "C="])),
    hostname=some(["", "h", "{{.Service.Name}}-{{.Task.Slot}}"]),
    domainname=some(["", "example.org"]),
    workdir=some(["", "/w", "/w/../x"]),
    user=some(["", "root", "1:2"]),
    groups=few(some(["wheel", "27"])),
    mounts=few(MOUNTS),
    init=st.booleans(),
    tty=st.booleans(),
    privileged=st.booleans(),
    cap_add=few(some(["NET_ADMIN", "CAP_SYS_TIME", "ALL"])),
    cap_drop=few(some(["ALL", "cap_kill"])),
    hosts=few(some(["10.0.0.1 db"])),
    dns=few(some(["1.1.1.1"])),
    ulimits=few(
        st.builds(UlimitSpec, name=some(["nofile", "core"]), soft=some([-1, 0, 5]), hard=some([-1, 0, 5]))
    ),
    sysctls=st.dictionaries(some(["net.core.somaxconn", "kernel.shmmax", "kernel.domainname"]),
                            st.just("1"), max_size=2),
    devices=few(st.builds(DeviceSpec, source=some(["/dev/null"]), permissions=some(["", "rwm"]))),
    device_rules=few(some(["c 1:3 rwm", "a *:* rwm", "b 8:* r"])),
    seccomp=some(["", "unconfined", '{"defaultAction": "SCMP_ACT_ALLOW"}']),
    oom_score_adj=some([0, -1000, 1000]),
    pid_mode=some(["", "host"]),
    ipc_mode=some(["", "private", "shareable", "host"]),
    uts_mode=some(["", "host"]),
    cgroupns_mode=some(["", "private", "host"]),
    userns=some(["", "host"]),
)  # fmt: skip
LIMITS = st.builds(
    Resources,
    memory=some([0, 6 * MB, 64 * MB]),
    memory_swap=some([0, -1, 64 * MB, 128 * MB]),
    memory_swappiness=some([None, 0, 100]),
    memory_reservation=some([0, 6 * MB]),
    nano_cpus=some([0, 10**6, 10**9]),
    cpu_quota=some([0, 1000]),
    cpu_period=some([0, 1000, 10**6]),
    cpu_shares=some([0, 2, 262_144]),
    cpuset_cpus=some(["", "0", "0-3,7", "8191"]),
    pids=some([0, 5]),
    oom_kill_disable=st.booleans(),
)


def accepted(spec: ServiceSpec) -> bool:
    try:
        validate.service(spec)
    except Invalid:
        return False
    return True


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CONTAINERS, LIMITS)
def test_a_spec_that_is_accepted_can_be_made_into_a_container(spec: ContainerSpec, limits: Resources) -> None:
    template = TaskTemplate(container=spec, limits=limits)
    assume(accepted(ServiceSpec(name="web", template=template)))
    task = container.expanded(replace(record(), template=template), FACTS)
    wanted = mounts.wanted(task.template.container.mounts, ImageConfig())
    sources = {mount.target: Source("/host/source") for mount in wanted}
    asked = container.asked(task, wanted, FACTS)
    config = container.config(asked, ImageConfig(cmd=("/bin/x",)), ("/layer",), FACTS, sources)
    if not config.args[0]:
        return  # an empty first word: what the image makes of it only the node knows
    check(config)
    limit_checks.check(config.limits, limit_checks.NodeFacts())
    bundle(config, HOST, LAYOUT)
