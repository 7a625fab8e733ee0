"""What a container uses and which processes it is, from the texts the kernel gives."""

from __future__ import annotations

from swarmd.node.runtime import kernfiles
from swarmd.node.runtime.core import proctable, stats
from swarmd.node.runtime.core.cgroups import ContainerGroups
from swarmd.node.runtime.measures import BlockUse, InterfaceUse

NET = """Inter-| Receive | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier
    lo:     840      10    0    0    0     0          0         0      840      10    0    0    0     0    0
  eth0:    1000       7    1    2    0     0          0         0     2000       9    3    4    0     0    0
"""
MEMORY_STAT = "cache 1\ninactive_file 1\ntotal_cache 3000\ntotal_inactive_file 2000\ntotal_swap 7\n"
SERVICE = "8:0 Read 4096\n8:0 Write 0\n7:0 Read 0\nTotal 4096\n"
CPU_STAT = "usage_usec 30\nuser_usec 20\nsystem_usec 10\n"


def test_a_hybrid_container_is_measured() -> None:
    groups = ContainerGroups(v2="/u", v1={name: f"/{name}" for name in ("memory", "cpu", "pids", "blkio")})
    texts = dict.fromkeys(stats.files(groups), "")
    texts |= {
        "memory/memory.usage_in_bytes": "5000\n",
        "memory/memory.max_usage_in_bytes": "9000\n",
        "memory/memory.limit_in_bytes": "67108864\n",
        "memory/memory.stat": MEMORY_STAT,
        "v2/cpu.stat": CPU_STAT + "nice_usec 0\n",
        "cpu/cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 900\nwait_sum 3\n",
        "pids/pids.current": "3\n",
        "pids/pids.max": "max\n",
        "blkio/blkio.throttle.io_service_bytes_recursive": SERVICE,
        "blkio/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 0\nTotal 1\n",
    }
    found = stats.assemble(texts, NET)
    assert (found.memory, found.memory_usage, found.memory_peak) == (3000, 5000, 9000)
    assert (found.memory_limit, found.memory_cache, found.memory_swap) == (67108864, 3000, 7)
    assert (found.cpu, found.cpu_user, found.cpu_system) == (30_000, 20_000, 10_000)
    assert (found.cpu_throttled, found.throttled_periods) == (900, 2)
    assert (found.pids, found.pids_limit) == (3, 0)
    assert found.io == (BlockUse("8:0", 4096, 0, 1, 0),)
    assert found.network == (InterfaceUse("eth0", 1000, 7, 1, 2, 2000, 9, 3, 4),)


def test_a_pure_v2_container_is_measured() -> None:
    groups = ContainerGroups(v2="/c", v1={})
    assert all(key.startswith("v2/") for key in stats.files(groups))
    texts = dict.fromkeys(stats.files(groups), "") | {
        "v2/memory.current": "5000",
        "v2/memory.peak": "9000",
        "v2/memory.max": "max",
        "v2/memory.swap.current": "7",
        "v2/memory.stat": "anon 1\nfile 3000\ninactive_file 2000\n",
        "v2/cpu.stat": CPU_STAT + "nr_periods 5\nnr_throttled 2\nthrottled_usec 9\n",
        "v2/pids.current": "3",
        "v2/pids.max": "100",
        "v2/io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n",
    }
    found = stats.assemble(texts, "")
    assert (found.memory, found.memory_limit, found.memory_cache, found.memory_swap) == (3000, 0, 3000, 7)
    assert (found.cpu, found.cpu_throttled, found.throttled_periods) == (30_000, 9000, 2)
    assert (found.pids, found.pids_limit, found.network) == (3, 100, ())
    assert found.io == (BlockUse("8:0", 4096, 8192, 1, 2),)


def test_a_pure_v1_container_is_measured() -> None:
    names = ("memory", "cpu", "cpuacct", "pids", "blkio", "freezer")
    groups = ContainerGroups(v2="", v1={name: f"/{name}" for name in names})
    texts = dict.fromkeys(stats.files(groups), "") | {
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "cpuacct/cpuacct.usage": "123456789\n",
        "cpuacct/cpuacct.stat": "user 7\nsystem 5\n",
    }
    found = stats.assemble(texts, "")
    assert (found.cpu, found.cpu_user, found.cpu_system) == (123456789, 70_000_000, 50_000_000)
    assert found.memory_limit == 0


def test_a_group_that_is_gone_uses_nothing() -> None:
    groups = ContainerGroups(v2="/c", v1={})
    assert stats.assemble(dict.fromkeys(stats.files(groups), ""), "") == stats.assemble({}, "")


STAT = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 5000 1000 20 18446744073709551615"


def test_a_process_is_read_whatever_its_name_is() -> None:
    process = proctable.process(STAT, "Name:\tx\nUid:\t1\t1000\t3\t4\n", "sh\0-c\0true\0", booted=1000.0)
    assert process is not None
    assert (process.pid, process.ppid, process.uid, process.state) == (42, 7, 1000, "S")
    assert (process.cpu, process.started_at, process.command) == (2.0, 1050.0, "sh -c true")


def test_a_process_without_arguments_shows_its_name_and_one_that_is_gone_is_none() -> None:
    kernel_like = proctable.process(STAT, "", "", booted=0.0)
    assert kernel_like is not None
    assert kernel_like.command == "[a) b (c)]"
    assert proctable.process("", "", "", booted=0.0) is None
    assert proctable.booted("cpu 1\nbtime 1700000000\nprocesses 5\n") == 1700000000.0


def test_what_the_kernel_tells_by_the_page_is_read_to_its_end() -> None:
    """One read of such a file answers a page at most, however large it is."""
    assert "[stack]" in kernfiles.read("/proc/self/maps")  # a hundred mappings before it
