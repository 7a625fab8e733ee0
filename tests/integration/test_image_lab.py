"""The lab's nginx runs and shows which image it is."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from swarmd.image.store import Rootfs
from tests.integration.image_rig import (
    merged,
    opened,
)

pytestmark = pytest.mark.root


LAB_IMAGES = Path(__file__).parents[2] / ".lab" / "images"

# In namespaces of its own: nginx as it runs in a container, asked once over loopback.
SERVE = """set -e
ip link set lo up
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/dev"
mknod -m 666 "$1/dev/null" c 1 3
ln -s /proc/self/fd/1 "$1/dev/stdout"; ln -s /proc/self/fd/2 "$1/dev/stderr"
mount --bind /etc/hostname "$1/usr/share/nginx/html/index.html"
chroot "$1" nginx -g 'daemon off;' &
until chroot "$1" wget -q -S -O - http://127.0.0.1/ 2>&1; do kill -0 $!; done
echo "workers: $(chroot "$1" ps -o user,args | grep '[n]ginx: worker')"
kill -QUIT $!
wait $!
"""


@pytest.mark.skipif(not LAB_IMAGES.is_dir(), reason="make the lab's images first: deploy/lab/build_images.py")
class TestLabImages:
    @pytest.mark.parametrize("version", ["1.12", "1.13"])
    def test_nginx_serves_what_is_mounted_over_its_page(self, tmp_path: Path, version: str) -> None:
        rootfs = asyncio.run(self.rootfs(tmp_path / "images", version))
        assert rootfs.config.cmd == ("nginx", "-g", "daemon off;")
        assert f"NGINX_VERSION={version}" in rootfs.config.env
        assert (rootfs.config.stop_signal, rootfs.config.exposed_ports) == ("SIGQUIT", ("80/tcp",))
        upper = tmp_path / "upper"
        upper.mkdir()
        with merged(tmp_path / "view", *(Path(layer) for layer in rootfs.layers), upper=upper) as view:
            apart = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child")
            command = [*apart, "sh", "-c", SERVE, "sh", str(view)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert f"X-Image: nginx:{version}" in done.stdout
        assert Path("/etc/hostname").read_text() in done.stdout
        assert "workers: www-data" in done.stdout

    @staticmethod
    async def rootfs(root: Path, version: str) -> Rootfs:
        store = await opened(root)
        for name in ("nginx-1.12", "nginx-1.13", "busybox"):
            await store.load(LAB_IMAGES / f"{name}.tar")
        assert [info.refs for info in store.list()] == [("busybox:latest",), ("nginx:1.12",), ("nginx:1.13",)]
        await store.prepare("busybox")
        rootfs = await store.prepare(f"nginx:{version}")
        assert rootfs.layers[-1:] == (await store.prepare("busybox")).layers
        return rootfs
