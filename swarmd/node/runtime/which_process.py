"""Which process a pid is: of which boot, and when it began.  Imports nothing: the spawner loads it too."""

from __future__ import annotations


def process_start(pid: int) -> str:
    """When ``pid`` started (clock ticks since boot, as text), "" if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[19].decode()
    except (OSError, IndexError):
        return ""


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
