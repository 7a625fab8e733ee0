"""What is told of a container that runs: how much it uses, and which processes it is."""

from __future__ import annotations

import msgspec


class BlockUse(msgspec.Struct, frozen=True):
    """Bytes and operations of one block device (``MAJOR:MINOR``) since the container's start."""

    device: str
    read_bytes: int = 0
    write_bytes: int = 0
    reads: int = 0
    writes: int = 0


class InterfaceUse(msgspec.Struct, frozen=True):
    """Bytes, packets, errors and drops of one network interface, as the container sees directions."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


class ContainerStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a container uses now.

    Memory in bytes: ``memory`` is what could not be dropped at once (usage without inactive page cache),
    ``memory_usage`` all of it, ``memory_cache`` the page cache, ``memory_peak`` the most there was (0: the
    kernel does not say), ``memory_limit`` 0 without a limit.  CPU in nanoseconds since its start, and for
    how long its quota kept it waiting.  ``pids`` counts processes and threads.  ``io`` is by device,
    ``network`` by interface without ``lo`` (empty on the host's network).
    """

    memory: int = 0
    cpu: int = 0
    pids: int = 0
    memory_usage: int = 0
    memory_limit: int = 0
    memory_cache: int = 0
    memory_swap: int = 0
    memory_peak: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    cpu_throttled: int = 0
    throttled_periods: int = 0
    pids_limit: int = 0
    io: tuple[BlockUse, ...] = ()
    network: tuple[InterfaceUse, ...] = ()


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a container, with its ids as the host has them.

    ``cpu`` is in seconds, ``started_at`` in seconds since 1970; ``state`` is the kernel's letter; ``command``
    its arguments, or its name in brackets if it has none.
    """

    pid: int
    ppid: int
    uid: int
    cpu: float
    started_at: float
    state: str
    command: str
