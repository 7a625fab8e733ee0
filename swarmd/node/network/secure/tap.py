"""The device that frames of encrypted networks leave and arrive by.  Calls block briefly.

It outlives the process that reads it, with all that was written for it: addresses, neighbours, routes.
"""

from __future__ import annotations

import fcntl
import os
import struct

DEVICE = "sx0"
_TUNSETIFF, _TUNSETPERSIST, _TUNSETOFFLOAD = 0x400454CA, 0x400454CB, 0x400454D0
_TAP, _NO_PI, _VNET_HDR = 0x0002, 0x1000, 0x4000
_CHECKSUMS, _SEGMENTS4, _SEGMENTS6 = 1, 2, 4


def open_device(name: str = DEVICE) -> int:
    """A descriptor that gives and takes one frame at a time, each behind a virtio header; the device is made
    if it is not there.  Raises :class:`OSError`: no such driver, no permission, or somebody reads it already.
    """
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", name.encode(), _TAP | _NO_PI | _VNET_HDR)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        # Without this the kernel cuts streams into single packets, at ten times the cost.
        fcntl.ioctl(descriptor, _TUNSETOFFLOAD, _CHECKSUMS | _SEGMENTS4 | _SEGMENTS6)
        fcntl.ioctl(descriptor, _TUNSETPERSIST, 1)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make(name: str = DEVICE) -> None:
    """See that the device is there.  One that is in use is."""
    try:
        os.close(open_device(name))
    except OSError as error:
        if error.errno != 16:  # EBUSY
            raise
