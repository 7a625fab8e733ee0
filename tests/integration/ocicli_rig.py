"""Bundles, and the runtimes that are told the same: ``swarmd-runtime``, and crun beside it as the judge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swarmd.node.runtime.core.oci_documents import example
from tests.integration.runtime_rig import make_image

OURS = (sys.executable, "-m", "swarmd.node.runtime.ocicli.command")
_LIMIT = 120
# Debian's crun refuses a machine that has controllers in cgroup v1 and v2 unless it sees no v2 tree.
_HIDE = 'umount -l /sys/fs/cgroup/unified 2>/dev/null; exec "$@"'

Config = dict[str, Any]


class Tool:
    """One runtime with a state directory of its own."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.root = root
        program = OURS if name == "swarmd-runtime" else ("unshare", "-m", "sh", "-c", _HIDE, name, name)
        self.argv = (*program, "--root", str(root))

    def __call__(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Its output goes to files: a pipe would be held open by the containers it leaves behind."""
        output = self.root.parent / f"{self.name}.out"
        with output.open("w+") as out, (self.root.parent / f"{self.name}.err").open("w+") as err:
            done = subprocess.run(
                [*self.argv, *words],
                stdin=options.pop("stdin", subprocess.DEVNULL),
                stdout=out,
                stderr=err,
                timeout=_LIMIT,
                check=False,
                **options,
            )
            out.seek(0)
            err.seek(0)
            result = subprocess.CompletedProcess(done.args, done.returncode, out.read(), err.read())
        if check:
            assert result.returncode == 0, f"{self.name} {' '.join(words)}: {result.stderr}"
        return result

    def state(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self("state", name).stdout))

    def clean(self) -> None:
        for name in self("list", "-q").stdout.split():
            self("delete", "-f", name, check=False)


class Bundle:
    """A directory with a root file system of busybox and a config.json that is changed at will."""

    def __init__(self, directory: Path, image: Path) -> None:
        directory.mkdir()
        self.directory = directory
        shutil.copytree(image, directory / "rootfs", symlinks=True)

    @property
    def rootfs(self) -> Path:
        return self.directory / "rootfs"

    def write(self, *args: str, change: Callable[[Config], None] = lambda _: None) -> str:
        """The path of the bundle, whose program is ``args``."""
        config = plain(*args)
        change(config)
        (self.directory / "config.json").write_text(json.dumps(config))
        return str(self.directory)

    def script(self, text: str, change: Callable[[Config], None] = lambda _: None) -> str:
        return self.write("sh", "-c", text, change=change)


def plain(*args: str) -> Config:
    """Without a terminal and without limits that this machine may be unable to give."""
    config = example(rootless=False, uid=0, gid=0)
    config["process"]["args"] = list(args)
    config["process"]["terminal"] = False
    del config["process"]["rlimits"]
    config["root"]["readonly"] = False
    config["linux"]["cgroupsPath"] = f"/ocicli-{os.getpid()}/box"
    return config


def image(directory: Path) -> Path:
    made = make_image(directory)
    (made / "etc" / "file").write_text("content\n")
    return made
