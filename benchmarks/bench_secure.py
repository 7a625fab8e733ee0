"""What carrying frames through TLS costs, beside the same bytes through plain VXLAN, between two namespaces.

CPU seconds of all processes that take part, for each Gbit; runs alternate.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.integration.network_bed import run
from tests.integration.test_secure_links import Authority, Machine, Net

ROUNDS = 5
MEGABYTES = 100
SINK = """
import socket, sys, resource
server = socket.create_server((sys.argv[1], 9100))
print("ready", flush=True)
sock = server.accept()[0]
buffer = bytearray(1 << 20)
while sock.recv_into(buffer): pass
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, flush=True)
"""
SOURCE = """
import socket, sys, resource
sock = socket.create_connection((sys.argv[1], 9100))
block = bytes(1 << 20)
for _ in range(int(sys.argv[2])): sock.sendall(block)
sock.close()
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, flush=True)
"""


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def plain(one: Machine, two: Machine) -> dict[Machine, str]:
    """A VXLAN device on both; their addresses on it."""
    addresses = {}
    for machine, other in ((one, two), (two, one)):
        ip = ("ip", "-n", machine.namespace)
        run(*ip, "link", "add", "vx9", "type", "vxlan", "id", "9", "dstport", "4789", "local",
            machine.peer.address, "remote", other.peer.address, "dev", "eth0")  # fmt: skip
        addresses[machine] = f"10.99.0.{machine.peer.number}"
        run(*ip, "address", "add", f"{addresses[machine]}/24", "dev", "vx9")
        run(*ip, "link", "set", "vx9", "mtu", "1450", "up")
    return addresses


def transfer(source: Machine, sink: Machine, address: str) -> float:
    """CPU seconds of both ends and of the carriers."""
    carriers = [machine.process.pid for machine in (source, sink) if machine.process]
    before = sum(map(cpu_of, carriers))

    def inside(machine: Machine, program: str, *words: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", machine.namespace, sys.executable, "-c", program, *words]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    server = inside(sink, SINK, address)
    assert server.stdout
    assert server.stdout.readline() == "ready\n"
    client = inside(source, SOURCE, address, str(MEGABYTES))
    used = float(client.communicate()[0]) + float(server.communicate()[0])
    return used + sum(map(cpu_of, carriers)) - before


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        net = Net(Path(scratch))
        try:
            one, two = net.pair(Authority())
            addresses = plain(one, two)
            found: dict[str, list[float]] = {"vxlan": [], "tls": []}
            for _ in range(ROUNDS):
                found["vxlan"].append(transfer(one, two, addresses[two]))
                found["tls"].append(transfer(one, two, two.inner))
        finally:
            net.close()
    gigabits = MEGABYTES * (1 << 20) * 8 / 1e9
    for name, values in found.items():
        sys.stdout.write(f"{name}: {statistics.median(values) / gigabits:.3f} CPU seconds a Gbit\n")
    ratio = statistics.median(b / a for a, b in zip(found["vxlan"], found["tls"], strict=True))
    sys.stdout.write(f"tls / vxlan: {ratio:.1f}\n")


if __name__ == "__main__":
    main()
