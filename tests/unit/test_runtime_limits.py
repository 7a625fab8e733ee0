"""From a container's limits to what is written into its cgroups: v1, hybrid, pure v2; and live changes."""

from __future__ import annotations

from typing import Any

import pytest

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import limits
from swarmd.node.runtime.core import oci_resources as oci
from swarmd.node.runtime.core.cgroups import Cgroups, ContainerGroups, Write, place
from swarmd.node.runtime.core.control_files import weight
from swarmd.node.runtime.core.limit_checks import NodeFacts, check, parse_set
from swarmd.node.runtime.core.limits import Change
from swarmd.node.runtime.port import Limits, Throttle

V1 = Cgroups({name: f"/cg/{name}" for name in (
    "memory", "cpu", "cpuacct", "pids", "blkio", "cpuset", "devices", "freezer", "hugetlb", "net_cls",
    "net_prio",
)}, "")  # fmt: skip
HYBRID = Cgroups({name: V1.v1[name] for name in ("memory", "cpu", "pids", "blkio", "cpuset")}, "/cg/unified")
V2 = Cgroups({}, "/cg")
_V1_FILES = """
memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness
memory.oom_control cpu.shares cpu.cfs_period_us cpu.cfs_quota_us cpu.cfs_burst_us cpu.rt_period_us
cpu.rt_runtime_us cpu.idle cpuset.cpus cpuset.mems pids.max blkio.bfq.weight blkio.bfq.weight_device
blkio.throttle.read_bps_device blkio.throttle.write_bps_device blkio.throttle.read_iops_device
blkio.throttle.write_iops_device hugetlb.2MB.limit_in_bytes net_cls.classid net_prio.ifpriomap
"""
_V2_FILES = """
memory.max memory.swap.max memory.low memory.high cpu.weight cpu.max cpu.max.burst cpu.idle cpuset.cpus
cpuset.mems pids.max io.max io.weight hugetlb.2MB.max rdma.max
"""
V1_FILES, V2_FILES = frozenset(_V1_FILES.split()), frozenset(_V2_FILES.split())
FULL = Limits(
    memory=64 << 20,
    memory_reservation=32 << 20,
    memory_swap=96 << 20,
    nano_cpus=1_500_000_000,
    cpu_shares=512,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    pids=100,
    blkio_weight=300,
    read_bps=(Throttle("/dev/sda", 1 << 20),),
    write_iops=(Throttle("/dev/sda", 50), Throttle("/dev/sdb", 60)),
)
DEVICES = {"/dev/sda": (8, 0), "/dev/sdb": (8, 16)}


def written(layout: Cgroups, files: frozenset[str], resources: oci.Resources) -> list[tuple[str, str]]:
    """(path without the container's directory, value), in order."""
    groups = place(layout, "c1", limits.controllers(resources))
    every = limits.writes(groups, resources, NodeFacts(files=files))
    return [(write.path.replace("/swarmd/c1", "").removeprefix("/cg/"), write.value) for write in every]


def test_all_limits_become_files_of_v1() -> None:
    expected = [
        ("memory/memory.limit_in_bytes", "67108864"),
        ("memory/memory.memsw.limit_in_bytes", "100663296"),
        ("memory/memory.soft_limit_in_bytes", "33554432"),
        ("cpu/cpu.shares", "512"),
        ("cpu/cpu.cfs_period_us", "100000"),
        ("cpu/cpu.cfs_quota_us", "150000"),
        ("cpuset/cpuset.cpus", "0-1"),
        ("cpuset/cpuset.mems", "0"),
        ("pids/pids.max", "100"),
        ("blkio/blkio.bfq.weight", "300"),
        ("blkio/blkio.throttle.read_bps_device", "8:0 1048576"),
        ("blkio/blkio.throttle.write_iops_device", "8:0 50"),
        ("blkio/blkio.throttle.write_iops_device", "8:16 60"),
    ]
    resources = limits.from_config(FULL, DEVICES)
    assert written(V1, V1_FILES, resources) == expected
    assert written(HYBRID, V1_FILES | {"cpu.stat"}, resources) == expected


def test_all_limits_become_files_of_v2() -> None:
    assert written(V2, V2_FILES, limits.from_config(FULL, DEVICES)) == [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("cpu.weight", "59"),
        ("cpu.max", "150000 100000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "100"),
        ("io.weight", "default 2930"),
        ("io.max", "8:0 rbps=1048576"),
        ("io.max", "8:0 wiops=50"),
        ("io.max", "8:16 wiops=60"),
    ]


def test_no_limits_write_nothing_and_need_no_extra_group() -> None:
    assert limits.from_config(Limits(), {}) == oci.Resources()
    assert written(HYBRID, V1_FILES, oci.Resources()) == []
    assert set(place(HYBRID, "c1", ()).v1) == {"memory", "cpu", "pids", "blkio"}
    assert set(place(V1, "c1", ()).v1) == {"memory", "cpu", "pids", "blkio", "cpuacct", "devices", "freezer"}


def test_memory_alone_gives_as_much_swap_and_minus_one_any_amount() -> None:
    alone = limits.from_config(Limits(memory=64 << 20), {})
    assert written(V1, V1_FILES, alone)[1] == ("memory/memory.memsw.limit_in_bytes", "134217728")
    assert written(V2, V2_FILES, alone)[1] == ("memory.swap.max", "67108864")
    endless = limits.from_config(Limits(memory=64 << 20, memory_swap=-1), {})
    assert written(V1, V1_FILES, endless)[1] == ("memory/memory.memsw.limit_in_bytes", "-1")
    assert written(V2, V2_FILES, endless)[1] == ("memory.swap.max", "max")
    none = limits.from_config(Limits(memory=64 << 20, memory_swap=64 << 20), {})
    assert written(V2, V2_FILES, none)[1] == ("memory.swap.max", "0")


def test_unlimited_memory_takes_the_limit_of_swap_away_too() -> None:
    every = written(V1, V1_FILES, oci.Resources(memory=oci.Memory(limit=-1)))
    assert every == [("memory/memory.limit_in_bytes", "-1"), ("memory/memory.memsw.limit_in_bytes", "-1")]


def test_a_kernel_without_swap_accounting_is_fine_unless_swap_was_asked_for() -> None:
    files = V1_FILES - {"memory.memsw.limit_in_bytes"}
    assert len(written(V1, files, limits.from_config(Limits(memory=64 << 20), {}))) == 1
    with pytest.raises(Invalid, match=r"memory.swap 83886080: .* no memory.memsw.limit_in_bytes"):
        written(V1, files, limits.from_config(Limits(memory=64 << 20, memory_swap=80 << 20), {}))


def test_what_a_layout_cannot_do_is_refused_by_the_name_of_its_files() -> None:
    with pytest.raises(Invalid, match=r"memory.swappiness 10: .* no memory.swappiness"):
        written(V2, V2_FILES, limits.from_config(Limits(swappiness=10), {}))
    with pytest.raises(Invalid, match=r"cpu.realtimeRuntime 5: .* no cpu.rt_runtime_us"):
        written(V2, V2_FILES, oci.Resources(cpu=oci.Cpu(realtime_runtime=5)))
    with pytest.raises(Invalid, match=r"pids.limit 5: .* no pids.max"):
        written(
            Cgroups({"memory": "/m"}, ""),
            frozenset({"memory.limit_in_bytes"}),
            limits.from_config(Limits(pids=5), {}),
        )


def test_the_network_class_is_left_out_with_a_warning_where_nothing_is_mounted() -> None:
    network = oci.Network(class_id=7, priorities=(oci.InterfacePriority(name="lo", priority=3),))
    resources = oci.Resources(network=network)
    assert written(V1, V1_FILES, resources) == [
        ("net_cls/net_cls.classid", "7"),
        ("net_prio/net_prio.ifpriomap", "lo 3"),
    ]
    assert written(V2, V2_FILES, resources) == []
    said = limits.ignored(place(V2, "c1"), resources, NodeFacts(files=V2_FILES))
    assert [text.split(" ")[0] for text in said] == ["network.classID", "network.priorities"]


def test_hugepages_rdma_and_unified_have_their_files() -> None:
    huge = oci.Resources(hugepage_limits=(oci.HugepageLimit(page_size="2MB", limit=4 << 20),))
    assert written(V1, V1_FILES, huge) == [("hugetlb/hugetlb.2MB.limit_in_bytes", "4194304")]
    assert written(V2, V2_FILES, huge) == [("hugetlb.2MB.max", "4194304")]
    rdma = oci.Resources(rdma={"mlx5_0": oci.Rdma(hca_handles=3)})
    assert written(V2, V2_FILES, rdma) == [("rdma.max", "mlx5_0 hca_handle=3 hca_object=max")]
    assert written(V2, V2_FILES, oci.Resources(unified={"memory.high": "5"})) == [("memory.high", "5")]
    for file, words in (
        ("misc.max", "no misc.max"),
        ("../x", "control file"),
        ("cgroup.procs", "control file"),
    ):
        with pytest.raises(Invalid, match=words):
            written(V2, V2_FILES, oci.Resources(unified={file: "1"}))
    with pytest.raises(Invalid, match="like 2MB"):
        written(
            V2, V2_FILES, oci.Resources(hugepage_limits=(oci.HugepageLimit(page_size="../2MB", limit=1),))
        )


@pytest.mark.parametrize(("shares", "expected"), [(2, 1), (1024, 100), (262_144, 10_000), (512, 59), (1, 1)])
def test_shares_become_weights_with_the_same_default(shares: int, expected: int) -> None:
    assert weight(shares) == expected


FACTS = NodeFacts(files=V1_FILES, cpus="0-1", mems="0")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"memory": 4096}, "memory 4096: it must be at least 6291456 .6 MiB"),
        ({"memory": -5}, "memory -5"),
        ({"memory_reservation": 1 << 30, "memory": 64 << 20}, "memory_reservation 1073741824 is more"),
        ({"memory_swap": 1 << 30}, "memory_swap 1073741824 needs a memory limit"),
        ({"memory_swap": 32 << 20, "memory": 64 << 20}, "memory_swap 33554432 is less than memory 67108864"),
        ({"memory_swap": -2, "memory": 64 << 20}, "memory_swap -2"),
        ({"swappiness": 101}, "swappiness 101"),
        ({"oom_kill_disable": True}, "oom_kill_disable needs a memory limit"),
        ({"nano_cpus": -1}, "nano_cpus -1"),
        ({"nano_cpus": 5, "cpu_quota": 5000}, "two ways"),
        ({"cpu_quota": 10}, "cpu_quota 10: it must be at least 1000"),
        ({"cpu_period": 10}, "cpu_period 10: it must be from 1000 to 1000000"),
        ({"cpu_shares": 1}, "cpu_shares 1"),
        ({"cpuset_cpus": "0,7"}, r"cpuset_cpus '0,7': 7 is not to be had on this node, which has 0-1"),
        ({"cpuset_cpus": "1-0"}, "write numbers and ranges"),
        ({"cpuset_mems": "3"}, "cpuset_mems '3'"),
        ({"pids": -2}, "pids -2"),
        ({"blkio_weight": 5}, "blkio_weight 5: it must be from 10 to 1000"),
        ({"read_bps": (Throttle("/dev/sda", 0),)}, "read_bps /dev/sda:0"),
    ],
)
def test_impossible_limits_are_refused_by_field_value_and_minimum(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        check(Limits(**fields), FACTS)


def test_possible_limits_pass() -> None:
    check(FULL, FACTS)
    check(Limits(pids=-1, cpu_quota=-1, memory=64 << 20, memory_swap=-1, cpuset_cpus="1"), NodeFacts())
    assert parse_set("cpuset_cpus", "0-2, 7\n") == {0, 1, 2, 7}


# Changes of a running container


def steps(
    before: Limits, after: Limits, *, memsw: int = 0, period: int = 100_000
) -> list[tuple[str, str, str]]:
    """(file, new value, value to take it back) in order."""
    groups = place(HYBRID, "c1")
    facts = NodeFacts(files=V1_FILES, cpus="0-1", mems="0")
    now = {"memory.memsw.limit_in_bytes": str(memsw), "cpu.cfs_period_us": str(period)}
    every = limits.changes(
        limits.writes(groups, limits.from_config(before, DEVICES), facts),
        limits.writes(groups, limits.from_config(after, DEVICES), facts),
        {path: now[path.rpartition("/")[2]] for path in limits.ordered_files(groups)},
        facts,
    )
    return [(each.do.path.rpartition("/")[2], each.do.value, each.undo.value) for each in every]


def test_only_what_differs_is_written() -> None:
    assert steps(FULL, FULL) == []
    assert steps(Limits(pids=5, cpu_shares=7), Limits(pids=6, cpu_shares=7)) == [("pids.max", "6", "5")]


def test_a_default_is_written_where_nobody_knows_what_is_there() -> None:
    """As for somebody who changes a container that another made."""
    assert steps(Limits(), Limits(cpu_shares=1024)) == [("cpu.shares", "1024", "1024")]


def test_memory_is_raised_below_a_raised_sum_and_lowered_before_it() -> None:
    small, large = Limits(memory=64 << 20), Limits(memory=256 << 20)
    raised = [name for name, _, _ in steps(small, large, memsw=128 << 20)]
    assert raised == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    lowered = [name for name, _, _ in steps(large, small, memsw=512 << 20)]
    assert lowered == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    freed = steps(small, Limits(), memsw=128 << 20)
    assert freed == [
        ("memory.memsw.limit_in_bytes", "-1", "134217728"),
        ("memory.limit_in_bytes", "-1", "67108864"),
    ]


def test_a_period_is_raised_before_the_quota_and_lowered_after_it() -> None:
    short, long = Limits(cpu_quota=5000, cpu_period=10_000), Limits(cpu_quota=50_000, cpu_period=100_000)
    assert [name for name, _, _ in steps(short, long, period=10_000)] == [
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
    ]
    assert [name for name, _, _ in steps(long, short, period=100_000)] == [
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
    ]


def test_what_is_not_limited_any_more_is_set_free() -> None:
    freed = {name: value for name, value, _ in steps(FULL, Limits(), memsw=96 << 20)}
    assert freed == {
        "memory.limit_in_bytes": "-1",
        "memory.memsw.limit_in_bytes": "-1",
        "memory.soft_limit_in_bytes": "-1",
        "cpu.shares": "1024",
        "cpu.cfs_quota_us": "-1",
        "pids.max": "max",
        "blkio.bfq.weight": "100",
        "blkio.throttle.read_bps_device": "8:0 0",
        "blkio.throttle.write_iops_device": "8:16 0",
    }  # FULL has all CPUs there are


def test_lines_of_one_file_are_changed_one_by_one() -> None:
    groups = ContainerGroups(v2="/c", v1={})
    facts = NodeFacts(files=V2_FILES)
    before = limits.writes(
        groups, limits.from_config(Limits(read_bps=(Throttle("/dev/sda", 5),)), DEVICES), facts
    )
    after = limits.writes(
        groups, limits.from_config(Limits(read_bps=(Throttle("/dev/sdb", 6),)), DEVICES), facts
    )
    assert limits.changes(before, after, {}, facts) == (
        Change(
            Write("/c/io.max", "8:16 rbps=6", "8:16 rbps"), Write("/c/io.max", "8:16 rbps=max", "8:16 rbps")
        ),
        Change(Write("/c/io.max", "8:0 rbps=max", "8:0 rbps"), Write("/c/io.max", "8:0 rbps=5", "8:0 rbps")),
    )
