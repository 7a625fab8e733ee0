"""Three etcd members with TLS on this machine, and a load on them: the peer of ``bench_store``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.h2 import CallFailed, Connection, dial, headers_of
from benchmarks.load import Figure, load
from swarmd.model.states import Role
from swarmd.security import ca

NAME = "localhost"
"""The one name all members' certificates carry."""

TRANSACTION = 128
"""Most operations that etcd takes in one transaction, as it comes."""

_PUT = headers_of("/etcdserverpb.KV/Put")
_RANGE = headers_of("/etcdserverpb.KV/Range")
_TXN = headers_of("/etcdserverpb.KV/Txn")
_MOVE = headers_of("/etcdserverpb.Maintenance/MoveLeader")
_CONNECTIONS = 8
_ATTEMPT = 0.02


class Etcd:
    """The cluster; ``ports`` are six free ones, ``value`` what a key holds."""

    def __init__(self, directory: Path, ports: Sequence[int], value: bytes) -> None:
        self._directory = directory
        self._clients, self._peers = ports[:3], ports[3:6]
        self._value = value
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._files = _certificates(directory)
        self._context = ssl.create_default_context(cafile=str(self._files["ca"]))
        self._context.load_cert_chain(self._files["crt"], self._files["key"])
        self._context.set_alpn_protocols(["h2"])

    async def up(self) -> None:
        for member in range(3):
            self.start(member)
        await self.settled()

    def start(self, member: int) -> None:
        """Start one, new or again."""
        files = {k: str(v) for k, v in self._files.items()}
        cluster = ",".join(f"m{i}=https://{NAME}:{port}" for i, port in enumerate(self._peers))
        command = [
            "etcd", "--name", f"m{member}", "--data-dir", str(self._directory / f"m{member}"),
            "--listen-client-urls", f"https://127.0.0.1:{self._clients[member]}",
            "--advertise-client-urls", f"https://{NAME}:{self._clients[member]}",
            "--listen-peer-urls", f"https://127.0.0.1:{self._peers[member]}",
            "--initial-advertise-peer-urls", f"https://{NAME}:{self._peers[member]}",
            "--initial-cluster", cluster, "--initial-cluster-state", "new",
            "--cert-file", files["crt"], "--key-file", files["key"], "--trusted-ca-file", files["ca"],
            "--client-cert-auth", "--peer-client-cert-auth",
            "--peer-cert-file", files["crt"], "--peer-key-file", files["key"],
            "--peer-trusted-ca-file", files["ca"], "--log-level", "error",
        ]  # fmt: skip
        with (self._directory / f"m{member}.log").open("ab") as log:
            self._processes[member] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, member: int) -> None:
        self._processes[member].kill()
        self._processes.pop(member).wait()

    def down(self) -> None:
        for member in list(self._processes):
            self.kill(member)

    async def settled(self) -> int:
        """The leader, once all three know one another and it."""
        while True:
            statuses = await asyncio.to_thread(self._statuses)
            leaders = {status["leader"] for status in statuses}
            indexes = [status["raftAppliedIndex"] for status in statuses]
            if len(statuses) == 3 and len(leaders) == 1 and max(indexes) - min(indexes) < 10:
                (leader,) = leaders
                return next(i for i, s in enumerate(statuses) if s["header"]["member_id"] == leader)
            await asyncio.sleep(0.1)

    def _statuses(self) -> list[dict[str, Any]]:
        """One status of each member, in their order; fewer when one does not answer."""
        found: list[dict[str, Any]] = []
        for port in self._clients:
            command = [
                "etcdctl", "--endpoints", f"https://{NAME}:{port}", "--cacert", str(self._files["ca"]),
                "--cert", str(self._files["crt"]), "--key", str(self._files["key"]),
                "--command-timeout", "1s", "endpoint", "status", "-w", "json",
            ]  # fmt: skip
            answer = subprocess.run(command, capture_output=True, env={"ETCDCTL_API": "3"}, check=False)
            with contextlib.suppress(ValueError, IndexError):
                found.append(json.loads(answer.stdout)[0]["Status"])
        return found

    async def _dial(self, member: int) -> Connection:
        return await dial(self._clients[member], self._context, NAME)

    async def run(self, what: str, clients: int, seconds: float) -> Figure:
        """The load ``what`` ("write", "read", "batch") on the leader."""
        leader = await self.settled()
        lanes = [await self._dial(leader) for _ in range(min(clients, _CONNECTIONS))]
        act, weight = self._acts()[what]
        try:
            return await load(lambda n: act(lanes[n % len(lanes)], n), clients, seconds, weight=weight)
        finally:
            for lane in lanes:
                lane.close()

    def _acts(self) -> dict[str, tuple[Callable[[Connection, int], Awaitable[object]], int]]:
        batch = b"".join(_field(2, _field(2, _put(_key(n), self._value))) for n in range(TRANSACTION))
        return {
            "write": (lambda lane, n: lane.call(_PUT, _put(_key(n), self._value)), 1),
            "read": (lambda lane, n: lane.call(_RANGE, _field(1, _key(n))), 1),
            "batch": (lambda lane, _: lane.call(_TXN, batch), TRANSACTION),
        }

    async def lose_leader(self) -> float:
        """Seconds from the leader's kill -9 to the next write that another member accepted."""
        leader = await self.settled()
        others = [await self._dial(member) for member in range(3) if member != leader]
        begin = time.monotonic()
        self.kill(leader)
        pending: set[asyncio.Task[bytes]] = set()
        while True:
            # A follower may lose what it forwarded to a dead leader, so one attempt says little.
            pending |= {asyncio.create_task(one.call(_PUT, _put(b"after", self._value))) for one in others}
            done, pending = await asyncio.wait(pending, timeout=_ATTEMPT)
            if any(task.exception() is None for task in done):
                break
        taken = time.monotonic() - begin
        for one in others:
            one.close()
        await asyncio.gather(*pending, return_exceptions=True)
        self.start(leader)
        await self.settled()
        return taken

    async def hand_over(self) -> float:
        """Seconds from asking the leader to hand on to the next write accepted under its heir."""
        leader = await self.settled()
        heir = (leader + 1) % 3
        target = (await asyncio.to_thread(self._statuses))[heir]["header"]["member_id"]
        old, new = await self._dial(leader), await self._dial(heir)
        begin = time.monotonic()
        await old.call(_MOVE, b"\x08" + _varint(target))
        while True:
            with contextlib.suppress(CallFailed):
                await new.call(_PUT, _put(b"after", self._value))
                break
        taken = time.monotonic() - begin
        old.close()
        new.close()
        return taken


def _certificates(directory: Path) -> dict[str, Path]:
    """One certificate for clients and members, made by the swarm's own authority."""
    now = time.time()
    root, root_key = ca.new_root(now)
    key = ca.new_key()
    identity = ca.Identity(node_id=NAME, role=Role.MANAGER, cluster_id="bench")
    certificate = ca.sign(
        ca.new_request(key), identity, root_pem=root, root_key_pem=root_key, now=now, life=86400.0
    )
    files = {"ca": root, "crt": certificate, "key": key}
    for name, data in files.items():
        (directory / name).write_bytes(data)
    return {name: directory / name for name in files}


def _key(number: int) -> bytes:
    return f"task{number:021d}".encode()


def _put(key: bytes, value: bytes) -> bytes:
    return _field(1, key) + _field(2, value)


def _field(number: int, data: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
