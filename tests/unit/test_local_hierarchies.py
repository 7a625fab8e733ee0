"""Where a node's cgroups lie, for each shape a machine's cgroup tree can have."""

from __future__ import annotations

from swarmd.cli.local.core.hierarchies import (
    Hierarchy,
    is_pure_v2,
    mount_plan,
    node_directories,
    parse,
    unescape,
)

HYBRID = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
30 23 0:25 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
34 30 0:29 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
35 27 0:30 / /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
"""
HYBRID_SELF = """\
9:name=systemd:/user.slice/session-1.scope
4:memory:/jobs/7
1:cpu,cpuacct:/
0::/user.slice/session-1.scope
"""


def test_the_hybrid_shape_has_each_v1_hierarchy_and_the_v2_tree() -> None:
    assert parse(HYBRID, HYBRID_SELF) == (
        Hierarchy("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct"),
        Hierarchy("/sys/fs/cgroup/memory", "cgroup", "memory", "/sys/fs/cgroup/memory/jobs/7"),
        Hierarchy(
            "/sys/fs/cgroup/systemd",
            "cgroup",
            "name=systemd",
            "/sys/fs/cgroup/systemd/user.slice/session-1.scope",
        ),
        Hierarchy(
            "/sys/fs/cgroup/unified", "cgroup2", "", "/sys/fs/cgroup/unified/user.slice/session-1.scope"
        ),
    )
    assert not is_pure_v2(parse(HYBRID, HYBRID_SELF))


def test_named_hierarchies_are_mounted_again_without_controllers() -> None:
    assert mount_plan(parse(HYBRID, HYBRID_SELF)) == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"),
        ("/sys/fs/cgroup/memory", "cgroup", "memory"),
        ("/sys/fs/cgroup/systemd", "cgroup", "none,name=systemd"),
        ("/sys/fs/cgroup/unified", "cgroup2", ""),
    ]


def test_pure_v2_is_one_tree() -> None:
    found = parse("30 23 0:25 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate", "0::/user.slice")
    assert found == (Hierarchy("/sys/fs/cgroup", "cgroup2", "", "/sys/fs/cgroup/user.slice"),)
    assert is_pure_v2(found)


def test_a_mount_that_shows_only_a_part_of_the_tree_is_counted_from_there() -> None:
    found = parse("30 23 0:25 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw", "0::/docker/abc/mine")
    assert found[0].own == "/sys/fs/cgroup/mine"


def test_a_process_outside_of_what_is_mounted_starts_at_the_mount() -> None:
    found = parse("30 23 0:25 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw", "0::/elsewhere")
    assert found[0].own == "/sys/fs/cgroup"


def test_a_node_has_one_directory_below_each_base() -> None:
    assert node_directories(("/c/cpu", "/c/mem/jobs"), "local", "node2") == (
        "/c/cpu/swarmd-local/local/node2",
        "/c/mem/jobs/swarmd-local/local/node2",
    )


def test_blanks_and_backslashes_in_paths_are_read_back() -> None:
    assert unescape(r"/a\040b\134c") == r"/a b\c"
