"""Between the dictionaries of the Raft core and the messages on the wire.  Pure; nothing is unpickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarmd.model.errors import SwarmError
from swarmd.rpc.v1 import peer_pb2 as pb

CoreMessage = dict[str, Any]
_Type = pb.RaftMessage.Type


def to_wire(message: CoreMessage) -> pb.RaftMessage:
    """A message of the core as protobuf.  Raises SwarmError for one that static epochs never send."""
    encode = _ENCODERS.get(message["type"])
    if encode is None or "serialized" in message or "transmission" in message:
        raise SwarmError(f"The Raft core wants to send {message['type']!r}, which epochs do not use.")
    return encode(message)


def from_wire(wire: pb.RaftMessage) -> CoreMessage | None:
    """A message for the core, or None for one it must not see: of an unknown type or not well formed."""
    decode = _DECODERS.get(wire.type)
    if decode is None or not _is_consecutive(wire):
        return None
    return decode(wire)


def _is_consecutive(wire: pb.RaftMessage) -> bool:
    """The entries follow ``prev_index`` without a gap, and each says something."""
    first = wire.prev_index + 1
    return all(entry.index == first + n and entry.command for n, entry in enumerate(wire.entries))


def _encode_append(message: CoreMessage) -> pb.RaftMessage:
    return pb.RaftMessage(
        type=_Type.TYPE_APPEND_ENTRIES,
        term=message["term"],
        commit_index=message["commit_index"],
        prev_index=message["prevLogIdx"],
        prev_term=message["prevLogTerm"],
        entries=[
            pb.RaftEntry(command=command, index=index, term=term)
            for command, index, term in message["entries"]
        ],
    )


def _decode_append(wire: pb.RaftMessage) -> CoreMessage:
    return {
        "type": "append_entries",
        "term": wire.term,
        "commit_index": wire.commit_index,
        "prevLogIdx": wire.prev_index,
        "prevLogTerm": wire.prev_term,
        "entries": [(entry.command, entry.index, entry.term) for entry in wire.entries],
    }


def _encode_next(message: CoreMessage) -> pb.RaftMessage:
    return pb.RaftMessage(
        type=_Type.TYPE_NEXT_INDEX,
        term=message["term"],
        next_index=message["next_node_idx"],
        reset=message["reset"],
        success=message["success"],
    )


def _decode_next(wire: pb.RaftMessage) -> CoreMessage:
    return {
        "type": "next_node_idx",
        "term": wire.term,
        "next_node_idx": wire.next_index,
        "reset": wire.reset,
        "success": wire.success,
    }


def _encode_request(message: CoreMessage) -> pb.RaftMessage:
    return pb.RaftMessage(
        type=_Type.TYPE_REQUEST_VOTE,
        term=message["term"],
        last_index=message["last_log_index"],
        last_term=message["last_log_term"],
    )


def _decode_request(wire: pb.RaftMessage) -> CoreMessage:
    return {
        "type": "request_vote",
        "term": wire.term,
        "last_log_index": wire.last_index,
        "last_log_term": wire.last_term,
    }


_ENCODERS: dict[str, Callable[[CoreMessage], pb.RaftMessage]] = {
    "append_entries": _encode_append,
    "next_node_idx": _encode_next,
    "request_vote": _encode_request,
    "response_vote": lambda m: pb.RaftMessage(type=_Type.TYPE_RESPONSE_VOTE, term=m["term"]),
    "timeout_now": lambda m: pb.RaftMessage(type=_Type.TYPE_TIMEOUT_NOW, term=m["term"]),
}
_DECODERS: dict[int, Callable[[pb.RaftMessage], CoreMessage]] = {
    _Type.TYPE_APPEND_ENTRIES: _decode_append,
    _Type.TYPE_NEXT_INDEX: _decode_next,
    _Type.TYPE_REQUEST_VOTE: _decode_request,
    _Type.TYPE_RESPONSE_VOTE: lambda w: {"type": "response_vote", "term": w.term},
    _Type.TYPE_TIMEOUT_NOW: lambda w: {"type": "timeout_now", "term": w.term},
}
