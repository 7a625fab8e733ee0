"""CPU that a proxied HTTP request costs: our router, HAProxy and nginx, before the same nginx, in turns.

All on loopback, one process (and one thread) for each proxy; what is counted is its CPU time alone, from the
kernel's own accounts, over the requests that wrk had answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from swarmd.kit.clock import SystemClock
from swarmd.node.network.port import Backend, HttpRoute
from swarmd.node.router.router import Router

WEB, OURS, HAPROXY, NGINX = 18080, 18081, 18082, 18083
PROXIES = {"router": OURS, "haproxy": HAPROXY, "nginx": NGINX}
TICK = os.sysconf("SC_CLK_TCK")

_NGINX = """daemon off; worker_processes 1; pid {dir}/{name}.pid; error_log /dev/null;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 1000000; client_body_temp_path {dir}/{name}; {body} }}
"""
_WEB = "server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{text}'; }} }}"
_PROXY = """upstream web {{ server 127.0.0.1:{web}; keepalive 64; }}
server {{ listen 127.0.0.1:{port}; server_name app.example.com; location / {{
proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}"""
_HAPROXY = """global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  use_backend b if {{ hdr(host) -i app.example.com }}
backend b
  server one 127.0.0.1:{web}
"""


async def serve() -> None:
    """Our router, until it is ended."""
    router = Router(SystemClock(), lambda name, error: print(name, error, file=sys.stderr))
    backend = Backend("t", "127.0.0.1", WEB, "n")
    await router.update([HttpRoute("s", "web", OURS, "app.example.com", "/", "", (backend,))], [])
    await asyncio.Event().wait()


def cpu(pid: int) -> float:
    """Seconds of a process and its children."""
    pids = [pid, *(int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / TICK


def load(port: int, seconds: int, *, keep: bool) -> int:
    """Requests that were answered with 200."""
    close = [] if keep else ["-H", "Connection: close"]
    url = f"http://127.0.0.1:{port}/"
    out = subprocess.run(
        ["wrk", "-t1", "-c32", f"-d{seconds}s", "-H", "Host: app.example.com", *close, url],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    if "Non-2xx" in out:
        raise SystemExit(out)
    found = re.search(r"(\d+) requests in", out)
    assert found is not None, out
    return int(found[1])


@contextlib.contextmanager
def running(*command: str, port: int) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def measure(rounds: int, seconds: int) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        at = Path(name)
        web = _WEB.format(port=WEB, text="x" * 512)
        (at / "web.conf").write_text(_NGINX.format(dir=name, name="web", body=web))
        proxy = _PROXY.format(web=WEB, port=NGINX)
        (at / "proxy.conf").write_text(_NGINX.format(dir=name, name="proxy", body=proxy))
        (at / "haproxy.cfg").write_text(_HAPROXY.format(port=HAPROXY, web=WEB))
        stack.enter_context(running("nginx", "-c", f"{name}/web.conf", port=WEB))
        commands = {
            "router": (sys.executable, "-m", "benchmarks.bench_router", "--serve"),
            "haproxy": ("haproxy", "-db", "-f", f"{name}/haproxy.cfg"),
            "nginx": ("nginx", "-c", f"{name}/proxy.conf"),
        }
        pids = {
            proxy: stack.enter_context(running(*command, port=PROXIES[proxy]))
            for proxy, command in commands.items()
        }
        print(f"load average {os.getloadavg()[0]:.1f}; {rounds} rounds of {seconds} s each")
        for keep in (True, False):
            costs: dict[str, list[float]] = {proxy: [] for proxy in pids}
            for _ in range(rounds):
                for proxy, pid in pids.items():
                    before = cpu(pid)
                    answered = load(PROXIES[proxy], seconds, keep=keep)
                    costs[proxy].append((cpu(pid) - before) / answered * 1e6)
            print("kept connections" if keep else "a connection for each request")
            for proxy, found in costs.items():
                pairs = zip(costs["router"], found, strict=True)
                ratio = statistics.median(ours / theirs for ours, theirs in pairs)
                cost = statistics.median(found)
                print(f"  {proxy:8} {cost:7.1f} us CPU a request; router/{proxy} {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve())
    else:
        measure(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
