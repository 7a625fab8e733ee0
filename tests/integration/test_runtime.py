"""The local runtime on this machine: what a container sees, how it ends, what is left of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.model.errors import Conflict, Invalid, NotFound, Refused
from swarmd.node.runtime.core import oci
from swarmd.node.runtime.core.exits import StartFailed
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Files, Limits, Mount, Ulimit
from swarmd.node.runtime.storage import Storage
from tests.integration.runtime_rig import (
    Rig,
    cgroup_dirs,
    eventually,
    output,
    release,
    running,
    start,
    until_line,
)

pytestmark = pytest.mark.root


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


async def test_a_container_goes_through_its_life(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("echo hello; exec sleep 1000")
    pid = await runtime.create(config)
    assert [(state.status, state.pid) for state in runtime.list()] == [("created", pid)]
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    await runtime.start(config.id)
    await until_line(runtime, config.id, "hello")
    assert [state.status for state in runtime.list()] == ["running"]
    stats = await runtime.stats(config.id)
    assert stats.pids == 1
    assert stats.memory > 0
    assert stats.cpu > 0
    with pytest.raises(Refused):
        await runtime.remove(config.id)
    with pytest.raises(Refused):
        await runtime.start(config.id)
    with pytest.raises(Conflict):
        await runtime.create(config)
    state = await runtime.stop(config.id, grace=0.2)
    assert (state.status, state.exit_code, state.pid) == ("exited", 137, 0)
    assert 0 < state.started_at <= state.finished_at
    await runtime.remove(config.id)
    assert runtime.inspect(config.id) is None
    with pytest.raises(NotFound):
        await runtime.wait(config.id)


@pytest.mark.parametrize(("script", "code"), [("true", 0), ("exit 42", 42), ("kill -9 $$; sleep 9", 0)])
async def test_the_exit_code_is_the_programs(rig: Rig, runtime: LocalRuntime, script: str, code: int) -> None:
    if "kill" in script:  # a first process is immune to its own signals
        script, code = "sh -c 'kill -9 $$'; exit $?", 137
    state, _ = await output(runtime, rig.shell(script))
    assert (state.exit_code, state.oom_killed, state.error) == (code, False, "")


@pytest.mark.parametrize(
    ("program", "code", "words"),
    [
        ("nosuchthing", 127, 'exec: "nosuchthing": executable file not found in $PATH'),
        ("/no/such", 127, 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("/etc/passwd", 126, 'exec: "/etc/passwd": permission denied'),
        ("/etc", 126, 'exec: "/etc": is a directory'),
        ("/proc/self/exe", 126, "too many levels of symbolic links"),
        ("/bin/garbage", 126, "exec format error"),
    ],
)
async def test_a_program_that_cannot_run_is_named(
    rig: Rig, runtime: LocalRuntime, program: str, code: int, words: str
) -> None:
    (rig.image / "bin/garbage").write_bytes(b"\0garbage")
    (rig.image / "bin/garbage").chmod(0o755)
    config = rig.config(program)
    await runtime.create(config)
    with pytest.raises(StartFailed) as caught:
        await runtime.start(config.id)
    assert words in str(caught.value)
    assert caught.value.exit_code == code
    state = await runtime.wait(config.id)
    assert (state.exit_code, state.started_at) == (code, 0.0)
    assert words in state.error


async def test_stop_gives_time_to_end_well(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    state = await runtime.stop(config.id, grace=30)
    assert state.exit_code == 3


async def test_stop_sends_the_signal_of_the_config(rig: Rig, runtime: LocalRuntime) -> None:
    script = "trap 'exit 9' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done"
    config = rig.shell(script, stop_signal="SIGUSR1")
    await start(runtime, config)
    await until_line(runtime, config.id, "up")
    assert (await runtime.stop(config.id, grace=30)).exit_code == 9


async def test_a_created_container_can_be_stopped_and_removed(rig: Rig, runtime: LocalRuntime) -> None:
    first, second = rig.config("true"), rig.config("true")
    await runtime.create(first)
    assert (await runtime.stop(first.id, grace=30)).exit_code == 137
    pid = await runtime.create(second)
    await runtime.remove(second.id)
    assert not os.path.exists(f"/proc/{pid}")


async def test_nothing_survives_the_first_process(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("(sh -c 'sleep 1000 & sleep 1000' &); while [ ! -e /tmp/go ]; do sleep 0.05; done")
    await start(runtime, config)

    async def all_are_there() -> bool:
        return [each.command for each in await runtime.top(config.id)].count("sleep 1000") == 2

    await eventually(all_are_there)
    release(runtime, config.id)
    await runtime.wait(config.id)
    directories = cgroup_dirs(runtime, config.id)
    assert directories
    for directory in directories:
        assert Path(directory, "cgroup.procs").read_text() == ""


async def test_running_out_of_memory_is_said(rig: Rig, runtime: LocalRuntime) -> None:
    hungry = "dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null && echo done"
    state, _ = await output(runtime, rig.shell(f"{hungry}; exit 3", limits=Limits(memory=16 * 1024 * 1024)))
    assert (state.oom_killed, state.exit_code) == (True, 3)
    state, text = await output(runtime, rig.shell(hungry, limits=Limits(memory=512 * 1024 * 1024)))
    assert (state.oom_killed, text) == (False, "done\n")


async def test_processes_are_limited(rig: Rig, runtime: LocalRuntime) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all"
    state, text = await output(runtime, rig.shell(script, limits=Limits(pids=5)))
    assert "can't fork" in text
    assert state.exit_code != 0


async def test_cpu_and_memory_limits_are_written(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("sleep 1000", limits=Limits(nano_cpus=500_000_000, memory=64 * 1024 * 1024))
    await start(runtime, config)
    values = {}
    for directory in cgroup_dirs(runtime, config.id):
        for name in ("cpu.cfs_quota_us", "cpu.max", "memory.limit_in_bytes", "memory.max"):
            if Path(directory, name).exists():
                values[name.split(".")[0]] = Path(directory, name).read_text().split()[0]
    assert values == {"cpu": "50000", "memory": str(64 * 1024 * 1024)}


async def test_a_container_holds_dockers_capabilities(rig: Rig, runtime: LocalRuntime) -> None:
    script = "grep -E 'Cap|Seccomp:|NoNew' /proc/self/status | tr -s '\\t ' ' '"
    _, text = await output(runtime, rig.shell(script))
    assert "CapBnd: 00000000a80425fb" in text
    assert "CapEff: 00000000a80425fb" in text
    assert "CapInh: 0000000000000000" in text
    assert "CapAmb: 0000000000000000" in text
    assert "Seccomp: 2" in text
    assert "NoNewPrivs: 0" in text
    config = rig.shell(script, cap_drop=("ALL",), cap_add=("NET_ADMIN",), no_new_privileges=True, user="web")
    _, text = await output(runtime, config)
    assert "CapBnd: 0000000000001000" in text
    assert "CapEff: 0000000000000000" in text
    assert "NoNewPrivs: 1" in text


async def test_the_filter_and_the_device_rules_hold(rig: Rig, runtime: LocalRuntime) -> None:
    script = (
        "unshare -U true || echo no-unshare; mount -t tmpfs x /tmp || echo no-mount; "
        "mknod /tmp/kmsg c 1 11 && { cat /tmp/kmsg || echo no-kmsg; }; "
        "mknod /tmp/zero c 1 5 && head -c 3 /tmp/zero | wc -c"
    )
    _, text = await output(runtime, rig.shell(script, cap_add=("SYSLOG",)))
    lines = text.splitlines()
    assert {"no-unshare", "no-mount", "no-kmsg", "3"} <= set(lines)
    assert "cat: can't open '/tmp/kmsg': Operation not permitted" in lines


async def test_sensitive_files_are_hidden(rig: Rig, runtime: LocalRuntime) -> None:
    script = (
        "cat /proc/interrupts /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; "
        "(echo 1 > /proc/sys/kernel/pid_max) 2>&1; (echo 1 > /sys/kernel/mm/ksm/run) 2>&1; ls /dev | wc -l; "
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"
    )
    _, text = await output(runtime, rig.shell(script))
    lines = text.splitlines()
    assert lines[:2] == ["0", "0"]
    assert all("Read-only file system" in line for line in lines[2:4])
    assert int(lines[4]) == 14
    assert lines[5] == "0"


async def test_no_descriptor_of_the_runtime_leaks(rig: Rig, runtime: LocalRuntime) -> None:
    others = rig.shell("sleep 1000")
    await start(runtime, others)
    _, text = await output(runtime, rig.config("ls", "/proc/self/fd"))
    assert text.split() == ["0", "1", "2", "3"]  # 3 is how ls reads the directory


async def test_names_addresses_and_files_are_its_own(rig: Rig, runtime: LocalRuntime) -> None:
    files = Files(hosts="127.0.0.1 me\n10.1.2.3 db\n", resolv_conf="nameserver 127.0.0.11\n")
    script = "hostname; cat /etc/hosts /etc/resolv.conf; ip -o a | grep -c lo; echo $HOSTNAME $HOME; pwd; id"
    env = ("A=1", "HOME=/h")
    config = rig.shell(script, hostname="box", files=files, cwd="/made/for/it", user="web", env=env)
    _, text = await output(runtime, config)
    assert text.splitlines() == [
        "box", "127.0.0.1 me", "10.1.2.3 db", "nameserver 127.0.0.11", "2", "box /h", "/made/for/it",
        "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)",
    ]  # fmt: skip


async def test_mounts_are_as_asked(rig: Rig, runtime: LocalRuntime) -> None:
    shared = rig.base / "shared"
    shared.mkdir()
    (shared / "file").write_text("from the host\n")
    mounts = (
        Mount(source=str(shared), target="/data", readonly=True),
        Mount(source=str(shared), target="/rw", kind="volume"),
        Mount(target="/scratch", kind="tmpfs", size=1024 * 1024, mode=0o700),
    )
    script = (
        "cat /data/file; (echo x > /data/new) 2>&1; echo y > /rw/new; cat /data/new; "
        "stat -c %a /scratch; dd if=/dev/zero of=/scratch/big bs=64k count=32 2>&1 | grep -c 'No space'; "
        "(touch /made) 2>&1"
    )
    _, text = await output(runtime, rig.shell(script, mounts=mounts, read_only=True))
    lines = text.splitlines()
    assert lines[0] == "from the host"
    assert "Read-only file system" in lines[1]
    assert lines[2:5] == ["y", "700", "1"]
    assert "Read-only file system" in lines[5]
    assert (shared / "new").read_text() == "y\n"


async def test_a_link_in_the_image_cannot_lead_a_mount_outside(rig: Rig, runtime: LocalRuntime) -> None:
    victim = rig.base / "victim"
    (rig.image / "escape").symlink_to(f"/../../../../..{victim}")
    source = rig.base / "source"
    source.mkdir()
    (source / "inside").touch()
    config = rig.shell("ls -d /escape/inside", mounts=(Mount(source=str(source), target="/escape"),))
    _, text = await output(runtime, config)
    assert text == "/escape/inside\n"
    assert not victim.exists()


async def test_a_hostile_image_gets_an_error_not_a_way_out(rig: Rig, runtime: LocalRuntime) -> None:
    (rig.image / "dev").rmdir()
    (rig.image / "dev").symlink_to("/proc/1/root")
    with pytest.raises(Invalid, match="/dev in the image must be a directory"):
        await runtime.create(rig.config("true"))
    (rig.image / "dev").unlink()
    for number in (3, 4, 5):
        config = rig.config("true", cwd=f"/proc/self/fd/{number}")
        with pytest.raises(Invalid, match="working directory"):
            await runtime.create(config)


async def test_ulimits_and_sysctls_are_set(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell(
        "ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl",
        ulimits=(Ulimit("nofile", 100, 200),),
        sysctls={"net.ipv4.ip_default_ttl": "33"},
    )
    _, text = await output(runtime, config)
    assert text.split() == ["100", "33"]


async def test_an_init_can_be_put_first(rig: Rig, runtime: LocalRuntime) -> None:
    _, text = await output(runtime, rig.shell("cat /proc/1/cmdline | tr '\\0' ' '; echo $$", init=True))
    assert text.startswith("/sbin/docker-init -- sh -c")
    assert text.splitlines()[-1] != "1"


async def test_the_host_network_can_be_shared(rig: Rig, runtime: LocalRuntime) -> None:
    _, text = await output(runtime, rig.shell("readlink /proc/self/ns/net", network_mode="host"))
    assert text.strip() == os.readlink("/proc/self/ns/net")


async def test_namespaces_of_another_container_and_of_the_host_are_shared(
    rig: Rig, runtime: LocalRuntime
) -> None:
    first = rig.shell("echo there > /dev/shm/word; sleep 1000")
    pid = await start(runtime, first)
    peer = f"container:{first.id}"
    names = ("net", "pid", "ipc")
    theirs = [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]
    script = (
        "for n in net pid ipc; do readlink /proc/self/ns/$n; done; cat /dev/shm/word; cat /proc/1/cmdline"
    )
    config = rig.shell(script, network_mode=peer, pid_mode=peer, ipc_mode=peer)
    _, text = await output(runtime, config)
    assert text.splitlines()[:4] == [*theirs, "there"]
    assert "sleep" in text.splitlines()[4]
    script = "for n in net pid ipc uts cgroup; do readlink /proc/self/ns/$n; done"
    host = {f"{kind}_mode": "host" for kind in ("network", "pid", "ipc", "uts")}
    _, text = await output(runtime, rig.shell(script, cgroupns_mode="host", **host))
    assert text.split() == [os.readlink(f"/proc/self/ns/{name}") for name in (*names, "uts", "cgroup")]


async def test_every_container_is_an_oci_bundle(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.config("true", limits=Limits(pids=7))
    await runtime.create(config)
    spec = oci.decode((runtime.container_dir(config.id) / "config.json").read_bytes())
    assert spec.process is not None
    assert (spec.process.args, spec.oci_version) == (("true",), "1.0.2")
    assert spec.linux.resources is not None
    assert spec.linux.resources.pids == oci.Pids(limit=7)


async def test_what_an_earlier_version_left_is_taken_over(rig: Rig, runtime: LocalRuntime) -> None:
    config = rig.shell("exit 5")
    await start(runtime, config)
    await runtime.wait(config.id)
    directory = runtime.container_dir(config.id)
    (directory / "container.json").rename(directory / "config.json")
    ((_, stored, state),) = Storage(rig.data, rig.run).load()
    assert stored is not None
    assert stored.config == config
    assert state == runtime.inspect(config.id)


async def test_a_subpath_stays_in_its_source_and_an_empty_volume_is_filled(
    rig: Rig, runtime: LocalRuntime
) -> None:
    source, volume = rig.base / "source", rig.base / "volume"
    (source / "below").mkdir(parents=True)
    (source / "below/file").write_text("deep\n")
    (source / "out").symlink_to("/etc")
    volume.mkdir()
    (rig.image / "srv/sub").mkdir(parents=True)
    (rig.image / "srv/sub/page").write_text("from the image\n")
    os.chown(rig.image / "srv/sub", 1000, 1000)
    mounts = (
        Mount(source=str(source), target="/deep", subpath="below"),
        Mount(source=str(volume), target="/srv", kind="volume", copy_up=True),
    )
    _, text = await output(
        runtime, rig.shell("cat /deep/file /srv/sub/page; stat -c %u /srv/sub", mounts=mounts)
    )
    assert text == "deep\nfrom the image\n1000\n"
    assert (volume / "sub/page").read_text() == "from the image\n"
    outside = rig.config("true", mounts=(Mount(source=str(source), target="/deep", subpath="out"),))
    with pytest.raises(Invalid, match="No such file"):
        await runtime.create(outside)


async def test_a_link_in_the_image_cannot_lead_a_mount_into_what_the_kernel_shows(
    rig: Rig, runtime: LocalRuntime
) -> None:
    (rig.image / "data").symlink_to("/proc/sys")
    source = rig.base / "source"
    source.mkdir()
    with pytest.raises(Invalid, match="/data leads to proc"):
        await runtime.create(rig.config("true", mounts=(Mount(source=str(source), target="/data"),)))
