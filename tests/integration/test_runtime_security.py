"""Attacks on the runtime, class by class.  Each has a control: the same attack where the defence is off, or
against the runtimes of Debian where they fall for it, so that an attack that cannot work is noticed.

docs/security.md has the table.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from swarmd.model.errors import Invalid, SwarmError
from swarmd.node.runtime import wire
from swarmd.node.runtime.launch import readonly_clone
from swarmd.node.runtime.local import LocalRuntime
from swarmd.node.runtime.port import Device, Mount
from tests.integration.bundle_rig import Bundle, changed, config
from tests.integration.runtime_rig import Rig, output, running, start

pytestmark = pytest.mark.root

OPEN_TO_WRITE = (
    "for f in {}; do [ -e $f ] && if ( : >> $f ) 2>/dev/null; then echo open $f; fi; done; echo end"
)
ALL = {"privileged": True, "seccomp": "unconfined"}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[LocalRuntime]:
    async with running(rig) as started:
        yield started


def spawner_pid(rig: Rig) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(rig.run / "spawnd.sock"))
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(raw[:4], sys.byteorder)


def open_again(kept: int) -> int:
    """What a container does to the runtime's program: open for writing what it kept a path to; the errno."""
    try:
        os.close(os.open(f"/proc/self/fd/{kept}", os.O_WRONLY))
    except OSError as error:
        return error.errno or 0
    finally:
        os.close(kept)
    return 0


async def test_the_spawners_program_cannot_be_written_to(rig: Rig, runtime: LocalRuntime) -> None:
    """CVE-2019-5736.  The control runs the same copy of the interpreter from an ordinary mount: while it runs
    it is safe, and afterwards it is not."""
    await output(runtime, rig.config("true"))
    spawner = os.open(f"/proc/{spawner_pid(rig)}/exe", os.O_PATH)
    assert os.fstatvfs(spawner).f_flag & os.ST_RDONLY
    os.close(spawner)
    copy = rig.base / "python"
    shutil.copy(os.path.realpath(sys.executable), copy)
    image = readonly_clone(str(copy))
    assert open_again(_kept_after(f"/proc/self/fd/{image}", image)) == errno.EROFS
    os.close(image)
    assert open_again(_kept_after(str(copy))) == 0


def _kept_after(program: str, *fds: int) -> int:
    """A path to the program of a process, kept until that has ended."""
    home = {"PYTHONHOME": sys.base_prefix, "PATH": "/bin"}
    with subprocess.Popen(
        [program, "-c", "input()"], stdin=subprocess.PIPE, env=home, pass_fds=fds
    ) as process:
        kept = os.open(f"/proc/{process.pid}/exe", os.O_PATH)
        process.communicate(b"\n")
    return kept


async def test_a_magic_link_is_no_program(rig: Rig, runtime: LocalRuntime) -> None:
    """CVE-2019-5736, the other half.  The control is an ordinary link to an ordinary program."""
    (rig.image / "entry").symlink_to("/proc/self/exe")
    (rig.image / "true").symlink_to("/bin/true")
    refused, allowed = rig.config("/entry"), rig.config("/true")
    await runtime.create(refused)
    with pytest.raises(SwarmError, match="too many levels of symbolic links"):
        await runtime.start(refused.id)
    assert (await output(runtime, allowed))[0].exit_code == 0


@pytest.mark.parametrize("number", range(3, 13))
async def test_no_descriptor_is_a_working_directory(rig: Rig, runtime: LocalRuntime, number: int) -> None:
    """CVE-2024-21626.  The control is a link that stays inside."""
    with pytest.raises(Invalid):
        await runtime.create(rig.config("true", cwd=f"/proc/self/fd/{number}"))
    if number == 3:
        (rig.image / "inside").symlink_to("/tmp")
        _, text = await output(runtime, rig.config("pwd", cwd="/inside"))
        assert text == "/tmp\n"


def test_no_descriptor_reaches_the_program(tmp_path: Path) -> None:
    """The control gives one along on purpose."""
    place = Bundle(tmp_path, config("ls /proc/self/fd"))
    _, text = place.run("local")
    assert text.split() == ["0", "1", "2", "3"]
    reading, writing = os.pipe()
    command = ["/bin/busybox", "ls", "/proc/self/fd"]
    leaking = subprocess.run(command, pass_fds=(writing,), capture_output=True, text=True, check=True)
    assert str(writing) in leaking.stdout.split()
    os.close(reading)
    os.close(writing)


async def test_a_race_for_a_mount_target_leads_nowhere(rig: Rig, runtime: LocalRuntime) -> None:
    """CVE-2021-30465.  The control looks the same path up as runtimes did before, and gets outside."""
    shared, victim = rig.base / "shared", rig.base / "victim"
    for directory in (shared, victim, shared / "plain", rig.base / "source"):
        directory.mkdir()
    (shared / "link").symlink_to(f"/../../../../../../..{victim}")
    stop = threading.Event()
    racer = threading.Thread(target=_swap, args=(shared, stop))
    racer.start()
    try:
        for number in range(40):
            mounts = (
                Mount(source=str(shared), target="/shared"),
                Mount(source=str(rig.base / "source"), target=f"/shared/target/made{number}"),
            )
            try:
                await output(runtime, rig.config("true", mounts=mounts))
            except SwarmError:  # what was there changed under our hands
                continue
        assert list(victim.iterdir()) == []
        escaped = _look_up_as_before(shared, victim)
    finally:
        stop.set()
        racer.join()
    assert escaped


def _swap(shared: Path, stop: threading.Event) -> None:
    """``target`` is a directory, then a link to the victim, and so on."""
    turn = 0
    while not stop.is_set():
        turn += 1
        name = "link" if turn % 2 else "plain"
        with suppress(OSError):
            (shared / name).rename(shared / "target")
            stop.wait(0.001)
        with suppress(OSError):  # or somebody made a directory there meanwhile
            (shared / "target").rename(shared / (name if not (shared / name).exists() else f"gone{turn}"))


def _look_up_as_before(shared: Path, victim: Path) -> bool:
    """Check, then use: what :func:`os.makedirs` does."""
    for number in range(20_000):
        with suppress(OSError):
            os.makedirs(f"{shared}/target/naive{number}")
        if list(victim.iterdir()):
            return True
    return False


def test_dev_as_a_link_fills_nothing_outside(tmp_path: Path) -> None:
    """CVE-2026-47766.  The control is crun of Debian, which makes its device nodes outside of the root."""
    for runtime in ("local", "crun"):
        outside = tmp_path / f"outside-{runtime}"
        outside.mkdir()
        hostile = partial(_dev_is_a_link, to=outside)
        code, text = Bundle(tmp_path, without_dev(config("echo ran"))).run(runtime, hostile)
        if runtime == "local":
            assert code != 0
            assert "must be a directory, not a link" in text
        assert bool(list(outside.iterdir())) == (runtime == "crun"), text


def _dev_is_a_link(root: Path, *, to: Path) -> None:
    shutil.rmtree(root / "dev")
    (root / "dev").symlink_to(to)


@pytest.mark.parametrize("runtime", ["local", "runc"])
def test_a_false_null_device_is_not_taken_for_one(tmp_path: Path, runtime: str) -> None:
    """CVE-2025-31133.  The control is runc of Debian: what the program writes ends in the false one."""
    if shutil.which(runtime) is None and runtime != "local":
        pytest.skip("runc, the control, is not installed")
    document = without_dev(changed(config("echo written"), {"linux": {"maskedPaths": ["/proc/keys"]}}))

    def hostile(root: Path) -> None:
        (root / "secret").write_text("untouched\n")
        (root / "dev/null").symlink_to("/secret")

    code, text = Bundle(tmp_path, document).run(runtime, hostile)
    touched = (tmp_path / runtime / "rootfs/secret").read_text() != "untouched\n"
    assert touched == (runtime == "runc"), text
    if runtime == "local":
        assert "something else is there already" in text
        assert code != 0


def without_dev(document: dict[str, Any]) -> dict[str, Any]:
    kept = [mount for mount in document["mounts"] if not mount["destination"].startswith("/dev")]
    return {**document, "mounts": kept}


async def test_dev_null_of_a_shared_dev_is_not_trusted(rig: Rig, runtime: LocalRuntime) -> None:
    """What hides /proc/keys is this machine's null device, whatever the container has at /dev/null.  The
    control reads what is hidden in a privileged container."""
    fake = rig.base / "fake"
    fake.mkdir()
    (fake / "null").write_text("not empty\n")
    mounts = (Mount(source=str(fake), target="/dev"),)
    _, text = await output(runtime, rig.shell("cat /proc/keys; echo end; cat /dev/null", mounts=mounts))
    assert text == "end\nnot empty\n"
    _, text = await output(runtime, rig.shell("cat /proc/keys; echo end", **ALL))
    assert text.splitlines()[0] != "end"


async def test_what_the_kernel_shows_cannot_be_written(rig: Rig, runtime: LocalRuntime) -> None:
    """core_pattern, sysrq, ...: opened for writing only, since the control, a privileged container, may."""
    paths = (
        "/proc/sys/kernel/core_pattern /proc/sys/kernel/pid_max /proc/sysrq-trigger /proc/sys/vm/swappiness "
        "/proc/irq/default_smp_affinity /sys/kernel/mm/ksm/run /sys/kernel/uevent_helper /sys/power/state"
    )
    script = OPEN_TO_WRITE.format(paths)
    _, text = await output(runtime, rig.shell(script))
    assert text == "end\n"
    _, text = await output(runtime, rig.shell(script, **ALL))
    assert {"open /proc/sys/kernel/core_pattern", "open /sys/kernel/mm/ksm/run"} <= set(text.splitlines())


async def test_a_cgroup_is_no_way_out(rig: Rig, runtime: LocalRuntime) -> None:
    """CVE-2022-0492: no mount, no namespaces, no release_agent.  The control has the filter off and may."""
    script = (
        "mkdir /tmp/c; mount -t cgroup -o pids x /tmp/c && echo mounted; unshare -m true && echo apart; "
        + OPEN_TO_WRITE.format("/sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/*/release_agent")
    )
    _, text = await output(runtime, rig.shell(script))
    assert [line for line in text.splitlines() if ": " not in line] == ["end"]
    _, text = await output(runtime, rig.shell(script, **ALL))
    assert {"mounted", "apart"} <= set(text.splitlines())
    assert "open /sys/fs/cgroup" in text


async def test_only_listed_devices_open(rig: Rig, runtime: LocalRuntime) -> None:
    """A node can be made, as Docker allows, but not opened.  The control was given the device."""
    disk = os.stat("/").st_dev
    script = (
        f"mknod /tmp/disk b {os.major(disk)} {os.minor(disk)}; mknod /tmp/kmsg c 1 11; "
        "for f in /tmp/disk /tmp/kmsg; do (: < $f) 2>/dev/null && echo opened $f; done; echo end"
    )
    _, text = await output(runtime, rig.shell(script, cap_add=("SYSLOG",)))
    assert text == "end\n"
    script = "(: < /dev/kmsg) && echo opened"
    given = rig.shell(script, devices=(Device("/dev/kmsg", permissions="r"),), cap_add=("SYSLOG",))
    assert (await output(runtime, given))[1] == "opened\n"


async def test_devices_on_volumes_are_dead_where_it_was_asked(rig: Rig, runtime: LocalRuntime) -> None:
    """The control is the same volume without ``nodev``."""
    volume = rig.base / "volume"
    volume.mkdir()
    os.mknod(volume / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    for options, expected in ((("nodev",), "0\n"), ((), "4\n")):
        mounts = (Mount(source=str(volume), target="/v", options=options),)
        _, text = await output(runtime, rig.shell("head -c 4 /v/zero 2>/dev/null | wc -c", mounts=mounts))
        assert text == expected


_RING = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, ctypes.c_long(-3), 0))"


async def test_no_keyring_is_shared(rig: Rig, runtime: LocalRuntime) -> None:
    """Asked without a filter; with it no key can be asked for.  The control is two programs of the host."""
    (rig.image / "bin/chroot").symlink_to("busybox")
    command = ("chroot", "/host", os.path.realpath(sys.executable), "-S", "-c", _RING)
    mounts = (Mount(source="/", target="/host", readonly=True),)
    rings = set()
    for _ in range(2):
        _, text = await output(runtime, rig.config(*command, mounts=mounts, **ALL))
        rings.add(int(text))
    on_host = {int(_run(command[2:]).stdout) for _ in range(2)}
    assert len(on_host) == 1
    assert len(rings) == 2
    assert rings.isdisjoint(on_host | {-1})
    assert (await output(runtime, rig.config(*command, mounts=mounts)))[1] == "-1\n"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False, capture_output=True)


@pytest.mark.parametrize("user", ["", "web", "4321:99"])
async def test_no_capability_is_inherited(rig: Rig, runtime: LocalRuntime, user: str) -> None:
    """CVE-2022-27650.  The control is the bounding set, which is not empty."""
    _, text = await output(runtime, rig.shell("grep ^Cap /proc/self/status | tr -d '\\t'", user=user))
    held = dict(line.split(":") for line in text.splitlines())
    assert int(held["CapInh"], 16) == int(held["CapAmb"], 16) == 0
    assert int(held["CapBnd"], 16) == 0xA80425FB
    assert bool(int(held["CapEff"], 16)) == (user == "")


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", (), "0 0 0"),
        ("web", (), "1000 1000 1000 2000"),
        ("1000", (), "1000 1000 1000 2000"),
        ("web:extra", (), "1000 2000 2000"),
        ("4321", (), "4321 0 0"),
        ("4321:99", ("extra", "7"), "4321 99 7 99 2000"),
    ],
)
async def test_groups_are_the_containers_and_no_others(
    rig: Rig, runtime: LocalRuntime, user: str, groups: tuple[str, ...], expected: str
) -> None:
    """No group of the daemon is kept: the numbers are all that the kernel knows of the process."""
    (rig.image / "bin/sed").symlink_to("busybox")
    script = "sed -n -E 's/^(Uid|Gid):.([0-9]+).*/\\2/p; s/^Groups:.//p' /proc/self/status"
    _, text = await output(runtime, rig.shell(script, user=user, groups=groups))
    assert " ".join(text.split()) == expected


async def test_a_user_nobody_knows_is_refused(rig: Rig, runtime: LocalRuntime) -> None:
    for user in ("nobody-knows", "web:no-such-group"):
        with pytest.raises(Invalid, match="unable to find"):
            await runtime.create(rig.config("true", user=user))
    for name in ("passwd", "group"):
        (rig.image / "etc" / name).unlink()
    (rig.image / "etc/passwd").symlink_to("/proc/self/environ")  # nothing a plain file could be taken for
    script = "grep -c -E '^(Uid:.12|Gid:.34)' /proc/self/status"
    _, text = await output(runtime, rig.shell(script, user="12:34"))
    assert text == "2\n"


async def test_shared_memory_has_an_end(rig: Rig, runtime: LocalRuntime) -> None:
    """The control is given more of it."""
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=8 2>/dev/null; stat -c %s /dev/shm/x"
    for size in (4 << 20, 16 << 20):
        _, text = await output(runtime, rig.shell(script, shm_size=size))
        assert int(text) == min(size, 8 << 20)


async def test_only_root_reaches_the_spawner(rig: Rig, runtime: LocalRuntime) -> None:
    """The controls are root, and a socket with other permissions: its peer is looked at as well."""
    rig.run.chmod(0o755)
    for uid, mode, words in ((65534, 0o600, "PermissionError"), (65534, 0o666, ""), (0, 0o600, "")):
        (rig.run / "spawnd.sock").chmod(mode)
        answer, problem = _greet(rig.run, uid)
        assert words in problem
        assert (answer not in ("", "0")) == (uid == 0), problem


def _greet(directory: Path, uid: int) -> tuple[str, str]:
    """How many bytes a user is answered, and what went wrong."""
    script = (
        "import os, socket as s, sys; os.setresuid(*[int(sys.argv[1])] * 3); "
        "c = s.socket(s.AF_UNIX, s.SOCK_SEQPACKET); c.connect('spawnd.sock'); c.settimeout(50); "
        "c.send(bytes.fromhex(sys.argv[2])); print(len(c.recv(99)))"
    )
    command = [sys.executable, "-c", script, str(uid), wire.encode(1, "hello").hex()]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.strip(), done.stderr


async def test_a_volume_cannot_cover_what_the_kernel_shows(rig: Rig, runtime: LocalRuntime) -> None:
    """CVE-2019-16884, by links of the image.  The control leads to a place of the image's own."""
    source = rig.base / "source"
    source.mkdir()
    for name, target in (("one", "/proc/sys"), ("two", "/sys/kernel"), ("three", "/proc/self/attr")):
        (rig.image / name).symlink_to(target)
        with pytest.raises(Invalid, match=r"leads to|No such file|symbolic"):
            await runtime.create(rig.config("true", mounts=(Mount(source=str(source), target=f"/{name}"),)))
    (rig.image / "four").symlink_to("/tmp")
    script = "mount | grep -c ' /tmp '"
    _, text = await output(runtime, rig.shell(script, mounts=(Mount(source=str(source), target="/four"),)))
    assert text == "1\n"


async def test_a_subpath_cannot_be_swapped_for_a_way_out(rig: Rig, runtime: LocalRuntime) -> None:
    """A container with the same volume puts a link where the subpath was.  The control stays inside."""
    volume = rig.base / "volume"
    (volume / "real").mkdir(parents=True)
    (volume / "real/word").write_text("inside\n")
    (volume / "out").symlink_to("/etc")
    (volume / "in").symlink_to("real")
    wanted = [Mount(source=str(volume), target="/v", subpath=name) for name in ("out", "in")]
    with pytest.raises(Invalid):
        await runtime.create(rig.config("true", mounts=(wanted[0],)))
    _, text = await output(runtime, rig.config("cat", "/v/word", mounts=(wanted[1],)))
    assert text == "inside\n"


async def test_another_containers_processes_are_out_of_sight(rig: Rig, runtime: LocalRuntime) -> None:
    """The control shares the pid namespace of the host and sees them."""
    other = rig.config("sleep", "4321")
    await start(runtime, other)
    script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 43[2]1'"
    assert (await output(runtime, rig.shell(script)))[1] == "0\n"
    assert (await output(runtime, rig.shell(script, pid_mode="host")))[1] != "0\n"
