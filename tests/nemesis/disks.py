"""A node's data directory on a small file system of its own, so that its disk can really be full."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

SIZE = "64M"
_STEPS = (1 << 20, 1 << 16, 1 << 12)


class SmallDisk:
    """An ext4 image on a loop device, mounted where the node keeps its data."""

    def __init__(self, data: Path, image: Path) -> None:
        self._data = data
        self._image = image
        self._filler = data / "filler"

    def install(self) -> None:
        """Move the data of a node that is off onto the image, and mount it there."""
        with self._image.open("wb") as file:
            file.truncate(int(SIZE[:-1]) << 20)
        _run("mkfs.ext4", "-q", "-b", "4096", "-m", "0", str(self._image))
        aside = self._data.with_name("data.before")
        self._data.rename(aside)
        self._data.mkdir(mode=0o700)
        _run("mount", "-o", "loop", str(self._image), str(self._data))
        (self._data / "lost+found").rmdir()
        shutil.copytree(aside, self._data, dirs_exist_ok=True)
        shutil.rmtree(aside)

    def fill(self, leave: int = 0) -> None:
        """Leave ``leave`` bytes free: not one block."""
        with self._filler.open("ab", buffering=0) as file:
            for step in _STEPS:
                try:
                    while True:
                        file.write(bytes(step))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            os.ftruncate(file.fileno(), max(0, file.tell() - leave))
            os.fsync(file.fileno())

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount; the node must be off, or it keeps the file system."""
        if os.path.ismount(self._data):
            # Lazily: the kernel may use it for a moment longer than anybody who could be waited for.
            _run("umount", "--lazy", str(self._data))
        self._image.unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
