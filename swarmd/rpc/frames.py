"""Framing of the cluster port: u32 big-endian length, then one PeerFrame of at most 16 MiB."""

from __future__ import annotations

import asyncio
import struct

from google.protobuf.message import DecodeError

from swarmd.model.errors import Invalid
from swarmd.rpc.v1 import peer_pb2 as pb

MAX_FRAME_BYTES = 16 << 20
_LENGTH = struct.Struct(">I")


def encode_frame(frame: pb.PeerFrame) -> bytes:
    """The bytes of ``frame`` on the wire; raises Invalid when it is too large."""
    body = frame.SerializeToString()
    if len(body) > MAX_FRAME_BYTES:
        raise Invalid(f"A frame of {len(body)} bytes is larger than the {MAX_FRAME_BYTES} that are allowed.")
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader, *, limit: int = MAX_FRAME_BYTES) -> pb.PeerFrame | None:
    """The next frame, of at most ``limit`` bytes; None at a clean end.

    Raises Invalid for nonsense, OSError when the way breaks.
    """
    try:
        head = await reader.readexactly(_LENGTH.size)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise ConnectionResetError("the connection ended inside a frame") from error
    (length,) = _LENGTH.unpack(head)
    if length > limit:
        raise Invalid(f"A frame of {length} bytes is larger than the {limit} that are allowed.")
    try:
        return pb.PeerFrame.FromString(await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the connection ended inside a frame") from error
    except DecodeError as error:
        raise Invalid(f"A frame of {length} bytes is no PeerFrame: {error}.") from error


async def write_frame(writer: asyncio.StreamWriter, frame: pb.PeerFrame) -> None:
    """Send ``frame`` and wait while the other end is slow.  Raises OSError when the way breaks."""
    writer.write(encode_frame(frame))
    await writer.drain()
