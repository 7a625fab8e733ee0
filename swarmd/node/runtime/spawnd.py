"""The spawner: one small process per node that clones containers, is their parent and keeps their ends.

It is started by file path with ``python -I -S`` and outlives the daemon as long as a container runs.  It
never parses a config, never touches output, never blocks: a plan is executed by the cloned child
(``child.py``).  It must stay single threaded, because a raw clone copies only the calling thread.

Operations (see ``wire.py``): ``hello`` → version, pid; ``list`` after → rows; ``create`` id, cgroup, flags,
streams (empty, ``input`` or ``terminal``) with descriptors of the plan and, if it is not to be new, of the
pid namespace → pid and a pidfd; ``start`` id → time; ``pidfd`` id → the pidfd unless it has exited; ``ack``
id; ``forget`` id; ``logd``; those of ``spawnd_exec.py`` and ``spawnd_logs.py``; ``code`` → the version of our
program; ``upgrade`` interpreter, script, code → pid, with the descriptor of the interpreter's file or none;
``quit``.  Event: ``exited`` row.  A row is (id, status, pid, started, finished, wait status or None, failure
or None).  ``started`` is always answered before ``exited`` is told, and an end is on disk before it is told.
"""

from __future__ import annotations

import gc
import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
)

import _socket
import errno
import fcntl

from swarmd.node.runtime import child, kernel, rundir, spawnd_upgrade, wire
from swarmd.node.runtime.core import linux
from swarmd.node.runtime.spawnd_exec import Execs
from swarmd.node.runtime.spawnd_keep import Keep
from swarmd.node.runtime.spawnd_life import Lives
from swarmd.node.runtime.spawnd_logs import LogKeeper
from swarmd.node.runtime.spawnd_loop import Client, Loop
from swarmd.node.runtime.spawnd_state import Container, adopted, clone_in, now, thawed

TYPE_CHECKING = False  # importing typing would cost the spawner a megabyte
if TYPE_CHECKING:
    from typing import Any

_ROWS = 100


class Spawner:
    """All state; every method runs to its end without waiting."""

    def __init__(self, run_dir: str, code: str, lock: int, loop: Loop, logs: LogKeeper) -> None:
        self._run_dir = run_dir
        self._code = code
        self._lock = lock
        self._loop = loop
        self._logs = logs
        self._keep = Keep(run_dir, loop)
        self._lives = Lives(run_dir, loop, logs, self._keep)
        self._execs = Execs(loop, self._lives.containers)
        self._lives.others = self._execs.pids
        self.do_exec, self.do_exec_drop = self._execs.do_exec, self._execs.do_exec_drop
        self.do_exec_into = self._execs.do_exec_into
        self.do_terminal, self.do_input_end, self.do_keep = logs.do_terminal, logs.do_input_end, logs.do_keep

    def recover(self) -> None:
        """Take over what a spawner before us left."""
        self._keep.prepare()
        for container_id in rundir.identifiers(self._run_dir):
            self._logs.reopen(container_id)
            container = adopted(self._run_dir, container_id, self._lives.boot, self._keep)
            if container is not None:
                self._lives.take(container)

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where our predecessor was when it became us."""
        self._keep.prepare()
        self._loop.restore(state["loop"], self.handle)
        self._logs.restore(state["logs"], self._loop.clients)
        for values in state["containers"]:
            self._lives.take(thawed(values, self._loop.clients))
        self._execs.restore(state.get("execs", []), self._loop.clients)
        asked = state["asked"]
        if asked is not None:
            self._loop.clients[asked[0]].send(asked[1], "ok", os.getpid())

    def handle(self, client: Client, message: tuple[Any, ...], fds: list[int]) -> None:
        """One request.  The descriptors that came with it are closed afterwards."""
        number, operation, *arguments = message
        method = getattr(self, f"do_{operation}", self._unknown)
        try:
            method(client, number, *arguments, *fds)
        except OSError as error:
            client.send(number, "error", str(operation), "", error.errno or errno.EIO, str(error))
        except Exception as error:  # noqa: BLE001 - nothing a client says may end the parent of all containers
            client.send(number, "error", str(operation), "", errno.EINVAL, repr(error))
        finally:
            for fd in fds:
                os.close(fd)

    def _unknown(self, client: Client, number: int, *_: Any) -> None:
        raise OSError(errno.EINVAL, "unknown operation")

    def do_hello(self, client: Client, number: int) -> None:
        client.subscribed = True
        client.send(number, "ok", wire.VERSION, os.getpid())

    def do_list(self, client: Client, number: int, after: str) -> None:
        names = sorted(name for name in self._lives.containers if name > after)[:_ROWS]
        client.send(number, "ok", [self._lives.containers[name].row() for name in names])

    def do_create(
        self, client: Client, number: int, name: str, cgroup: str, flags: int, streams: str, *fds: int
    ) -> None:
        plan, *pid_space = fds
        if name in self._lives.containers:
            client.send(number, "error", "create", "", errno.EEXIST, "a container with this id exists")
            return
        container = Container(name)
        opened: list[int] = []
        try:
            stdio = self._logs.open(name, streams)
            opened += stdio
            cgroup_fd = -1
            if cgroup:
                cgroup_fd = os.open(cgroup, linux.O_PATH | os.O_DIRECTORY)
                opened.append(cgroup_fd)
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
            pid, container.pidfd = clone_in(pid_space, flags, cgroup_fd)
            if pid == 0:
                child.main(theirs.fileno(), plan, tuple(stdio))
        except OSError:
            self._logs.drop(name)
            raise
        finally:
            for fd in opened:
                os.close(fd)
        theirs.close()
        ours.setblocking(False)
        container.pid, container.channel, container.waiting = pid, ours, (client, number)
        self._lives.take(container)
        try:
            self._lives.save(container)
        except OSError:  # what cannot be noted could not be found again
            container.waiting = None
            self._lives.kill(container)
            raise
        self._keep.hold(name, container.pidfd)
        self._logs.announce(name)

    def do_pidfd(self, client: Client, number: int, name: str) -> None:
        container = self._lives.containers.get(name)
        held = () if container is None or container.status == "exited" else (container.pidfd,)
        client.send(number, "ok", fds=held)

    def do_start(self, client: Client, number: int, name: str) -> None:
        container = self._lives.containers.get(name)
        if container is None or container.status != "created" or container.channel is None:
            client.send(
                number, "error", "start", "", errno.EINVAL, "the container is not waiting to be started"
            )
            return
        container.status, container.started, container.waiting = "starting", now(), (client, number)
        self._lives.note(container)  # so that a spawner after us does not take it for one that waits
        # it is gone; its end is told by the pidfd
        with wire.ignoring(OSError):
            container.channel.send(b"go")

    def do_ack(self, client: Client, number: int, name: str) -> None:
        container = self._lives.containers.get(name)
        if container is not None and container.status == "exited":
            self._lives.drop(container)
        client.send(number, "ok")

    def do_forget(self, client: Client, number: int, name: str) -> None:
        """Kill it if it lives; answered when nothing of it is left here."""
        container = self._lives.containers.get(name)
        if container is not None and container.status != "exited":
            container.forgetting.append((client, number))
            self._lives.kill(container)
            return
        self._lives.containers.pop(name, None)
        rundir.forget(self._run_dir, name)
        self._logs.drop(name)
        client.send(number, "ok")

    def do_logd(self, client: Client, number: int) -> None:
        self._logs.connected(client)

    def do_done(self, client: Client, number: int, name: str) -> None:
        """The log pump has drained and closed a container's output."""
        self._logs.drained(name)

    def do_code(self, client: Client, number: int) -> None:
        client.send(number, "ok", self._code)

    def do_upgrade(
        self, client: Client, number: int, interpreter: str, script: str, code: str, *image: int
    ) -> None:
        """Become another program; it answers, or we do if that cannot be done."""
        self._keep.sweep()
        state = {
            "lock": self._lock,
            "asked": (self._loop.place(client), number),
            "loop": self._loop.state(),
            "logs": self._logs.state(self._loop.place),
            "execs": self._execs.state(self._loop.place),
            "containers": [each.frozen(self._loop.place) for each in self._lives.containers.values()],
        }
        parts = (self._loop, self._logs, self._lives, self._execs)
        fds = [self._lock, *(fd for part in parts for fd in part.descriptors())]
        program = (interpreter, script, code, image[0] if image else -1)
        spawnd_upgrade.execute(program, self._run_dir, state, fds)

    def do_quit(self, client: Client, number: int) -> None:
        self._logs.quit()
        self._keep.end()
        self._loop.stop()
        client.send(number, "ok")


def main(run_dir: str, ready_fd: int, code: str, memory: int) -> int:
    """Serve until told to quit.  Answers 3 if another spawner serves this run directory.

    ``code`` is our version, ``memory`` the descriptor of what a predecessor left that became us, or -1.
    """
    os.chdir("/")
    state = {} if memory < 0 else spawnd_upgrade.load(memory)
    ready = -1 if memory >= 0 else spawnd_upgrade.reserve(ready_fd)
    lock = state["lock"] if state else _lock(run_dir)
    if lock < 0:
        return 3
    kernel.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    kernel.prctl(linux.PR_SET_DUMPABLE, 0)  # children enter containers: nobody there may look into them
    loop = Loop()
    logs = LogKeeper(run_dir, loop)
    spawner = Spawner(run_dir, code, lock, loop, logs)
    if state:
        spawner.resume(state)
    else:
        spawner.recover()
        loop.serve(wire.listen(f"{run_dir}/{rundir.SOCKET}"), spawner.handle)
    logs.ensure()
    gc.disable()  # a collection would touch every page a child shares with us
    gc.freeze()
    if ready >= 0:
        os.close(ready)
    loop.run()
    os.unlink(f"{run_dir}/{rundir.SOCKET}")
    return 0


def _lock(run_dir: str) -> int:
    """Held for as long as the process lives, whatever program it becomes; -1 if another one holds it."""
    lock = os.open(f"{run_dir}/{rundir.LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return -1
    return lock


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
