#!/usr/bin/env python3
"""Makes the lab's images from Debian's packages: nginx:1.12, nginx:1.13 and busybox:latest.

Standard library only; no container engine; nothing is installed or started on this machine.  The two
nginx images hold the same program and differ in what a visitor sees.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from debian import Packages
from image_archive import Layer, Node, directory, file, layer_tar, symlink, write_archive

NGINX = "/usr/sbin/nginx"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VERSIONS = ("1.12", "1.13")

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
GROUP = b"root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nnogroup:x:65534:\n"

CONFIG = """user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /var/log/nginx/error.log notice;

events {
    worker_connections 1024;
}

http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;

    server {
        listen 80;
        root /usr/share/nginx/html;
        index index.html;
        add_header X-Image nginx:%(version)s always;
        add_header X-Served-By $hostname always;
    }
}
"""
PAGE = """<!DOCTYPE html>
<html>
<head><title>nginx:%(version)s</title></head>
<body><h1>Welcome to nginx:%(version)s</h1></body>
</html>
"""


def base_layer(packages: Packages) -> Layer:
    """A small system: directories, users, and busybox under all its names."""
    packages.add("busybox-static")
    busybox = _found(packages, "/usr/bin/busybox")
    listed = subprocess.run([str(busybox), "--list-full"], capture_output=True, text=True, check=True).stdout
    nodes: dict[str, Node] = {
        name: directory()
        for name in ("dev", "etc", "home", "proc", "run", "srv", "sys", "usr/local/bin", "var/log")
    }
    nodes |= {name: symlink(f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")}
    nodes |= {name: directory() for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64")}
    nodes |= {"root": directory(0o700), "tmp": directory(0o1777), "var/tmp": directory(0o1777)}
    nodes |= {"etc/passwd": file(PASSWD), "etc/group": file(GROUP), "var/run": symlink("/run")}
    nodes |= {"etc/nsswitch.conf": file(b"passwd: files\ngroup: files\nhosts: files dns\n")}
    for applet in listed.split():
        place = "usr/sbin" if "sbin/" in applet else "usr/bin"
        nodes[f"{place}/{Path(applet).name}"] = symlink("/usr/bin/busybox")
    nodes["usr/bin/busybox"] = file(busybox.read_bytes(), 0o755)
    return nodes


def nginx_layer(packages: Packages) -> Layer:
    """nginx, its libraries, and the directories it wants; its logs go to the container's output."""
    packages.add("nginx")
    packages.add("nginx-common")
    nodes: dict[str, Node] = {}
    for path, place in packages.closure("nginx", NGINX).items():
        name = path if "/" in path else f"/usr/lib/{os.uname().machine}-linux-gnu/{path}"
        nodes["usr/" + name.lstrip("/").removeprefix("usr/")] = file(place.read_bytes(), 0o755)
    nodes["etc/nginx/mime.types"] = file(_found(packages, "/etc/nginx/mime.types").read_bytes())
    nodes |= {name: directory() for name in ("var/lib/nginx", "var/log/nginx", "usr/share/nginx/html")}
    nodes["var/log/nginx/access.log"] = symlink("/dev/stdout")
    nodes["var/log/nginx/error.log"] = symlink("/dev/stderr")
    return nodes


def version_layer(version: str) -> Layer:
    """What tells one version from the other."""
    words = {"version": version}
    return {
        "etc/nginx/nginx.conf": file((CONFIG % words).encode()),
        "usr/share/nginx/html/index.html": file((PAGE % words).encode()),
    }


def build(target: Path) -> list[Path]:
    """Write all archives into ``target``."""
    machine = os.uname().machine
    with tempfile.TemporaryDirectory(prefix="lab-images-") as work:
        packages = Packages(Path(work))
        base, nginx = layer_tar(base_layer(packages)), layer_tar(nginx_layer(packages))
    made = [target / "busybox.tar"]
    write_archive(made[0], "busybox:latest", [base], machine, {"Cmd": ["sh"], "Env": [PATH]})
    for version in VERSIONS:
        run = {
            "Cmd": ["nginx", "-g", "daemon off;"],
            "Env": [PATH, f"NGINX_VERSION={version}"],
            "ExposedPorts": {"80/tcp": {}},
            "Labels": {"org.opencontainers.image.version": version},
            "StopSignal": "SIGQUIT",
        }
        made.append(target / f"nginx-{version}.tar")
        own = layer_tar(version_layer(version))
        write_archive(made[-1], f"nginx:{version}", [base, nginx, own], machine, run)
    return made


def recipe() -> str:
    """A digest of this recipe: when it changes, what was made before is stale."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def is_current(stamp: Path) -> bool:
    """Whether everything the stamp lists was made by this recipe and is still as it was made."""
    try:
        noted = json.loads(stamp.read_text())
        made: dict[str, str] = noted["images"]
        return noted["recipe"] == recipe() and all(
            _digest(stamp.parent / name) == digest for name, digest in made.items()
        )
    except (OSError, ValueError, KeyError):
        return False


def main() -> None:
    """Build unless everything is there already; name each archive on a line of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "target", nargs="?", type=Path, default=Path(".lab/images"), help="where the archives go"
    )
    parser.add_argument("--force", action="store_true", help="build even if the archives are there")
    options = parser.parse_args()
    target: Path = options.target
    target.mkdir(parents=True, exist_ok=True)
    stamp = target / "stamp.json"
    if options.force or not is_current(stamp):
        images = {path.name: _digest(path) for path in build(target)}
        stamp.write_text(json.dumps({"recipe": recipe(), "images": images}, indent=1, sort_keys=True) + "\n")
    for name in json.loads(stamp.read_text())["images"]:
        sys.stdout.write(f"{target / name}\n")


def _found(packages: Packages, path: str) -> Path:
    place = packages.find(path)
    if place is None:
        raise SystemExit(f"none of the downloaded packages has {path}")
    return place


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
