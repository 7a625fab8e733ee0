"""Reads the kernel's tables of sockets (/proc/PID/net/tcp and friends): is anybody listening?"""

from __future__ import annotations

from collections.abc import Iterator

from swarmd.node.network.port import Transport

_WAITING = {"tcp": "0A", "udp": "07"}
_FIELDS = 4
_V4_LOOPBACK_END = "7F"
_V6_LOOPBACK = "00000000000000000000000001000000"


def listens(table: str, protocol: Transport, port: int) -> bool:
    """Whether ``table`` (the file's text) shows a socket that takes traffic from outside on ``port``.

    A socket bound to a loopback address does not count: nobody but the container itself reaches it.
    """
    suffix = f":{port:04X}"
    for line in table.splitlines():
        fields = line.split(maxsplit=_FIELDS)
        if len(fields) < _FIELDS or fields[3] != _WAITING[protocol] or not fields[1].endswith(suffix):
            continue
        if not _loopback(fields[1].partition(":")[0]):
            return True
    return False


def ports(table: str, protocol: Transport) -> Iterator[int]:
    """The ports on which sockets in ``table`` wait."""
    for line in table.splitlines():
        fields = line.split(maxsplit=_FIELDS)
        if len(fields) >= _FIELDS and fields[3] == _WAITING[protocol]:
            yield int(fields[1].rpartition(":")[2], 16)


def _loopback(address: str) -> bool:
    if len(address) == 8:  # little-endian hex: 127.0.0.1 is 0100007F
        return address.endswith(_V4_LOOPBACK_END)
    return address == _V6_LOOPBACK
