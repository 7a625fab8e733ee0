"""Datagrams: messages in msgpack, sealed with AES-256-GCM under the swarm's gossip keys.

    version (1) · length of sender (1) · sender · epoch (8) · sequence (8) · ciphertext and tag (16)

Everything before the ciphertext is authenticated with it.  Each run of a sender has a key of its own,
derived from the swarm's key, the sender and the epoch, so that the sequence can be the nonce: it never
repeats within a run.  Whoever holds the swarm's key can speak as any member; the key is for members only.

What does not open, was seen before, or is no message is dropped and counted, never answered.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from collections import OrderedDict

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from swarmd.model.errors import Invalid
from swarmd.node.membership.core.messages import MAX_ID_BYTES, Message, PingRequest

KEY_BYTES = 32
WINDOW = 1024
_VERSION = 1
_TAG_BYTES = 16
_MAX_SENDERS = 20_000


class Envelope(msgspec.Struct, frozen=True):
    """An opened datagram: who says what."""

    sender: str
    epoch: int
    sequence: int
    message: Message


class Dropped(msgspec.Struct):
    """How many datagrams were dropped, by reason."""

    garbage: int = 0
    unsealed: int = 0
    replayed: int = 0


class KeyRing:
    """The swarm's gossip keys: the first seals, all open.  Raises Invalid for no key or a wrong length."""

    def __init__(self, keys: list[bytes]) -> None:
        if not keys:
            raise Invalid("gossip: no key was given; give at least one of 32 bytes")
        for number, key in enumerate(keys):
            if len(key) != KEY_BYTES:
                raise Invalid(f"gossip: key {number} has {len(key)} bytes, but must have {KEY_BYTES}")
        self.keys = tuple(keys)


class _Run(msgspec.Struct):
    """One run of one sender: the key that opened it last, the greatest sequence and those seen below it."""

    epoch: int
    key: bytes
    cipher: AESGCM
    top: int = 0
    seen: int = 0

    def fresh(self, sequence: int) -> bool:
        """Whether ``sequence`` is new and within the window; notes it."""
        if sequence > self.top:
            self.seen = ((self.seen << min(sequence - self.top, WINDOW)) | 1) & ((1 << WINDOW) - 1)
            self.top = sequence
            return True
        bit = 1 << (self.top - sequence)
        if self.top - sequence >= WINDOW or self.seen & bit:
            return False
        self.seen |= bit
        return True


class Codec:
    """Seals what one member says and opens what others say to it."""

    def __init__(self, sender: str, keys: list[bytes]) -> None:
        if not 1 <= len(sender.encode()) <= MAX_ID_BYTES:
            raise Invalid(f"gossip: the id {sender!r} must have 1 to {MAX_ID_BYTES} bytes")
        self.dropped = Dropped()
        self._sender = sender
        self._ring = KeyRing(keys)
        self._sequence = 0
        self._sealing: tuple[int, AESGCM] | None = None
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Message)

    def set_keys(self, keys: list[bytes]) -> None:
        """Replace the ring.  To rotate: [old, new] everywhere, then [new, old], then [new]."""
        self._ring = KeyRing(keys)
        self._sealing = None

    def seal(self, message: Message, epoch: int) -> bytes:
        """``message`` as a datagram of this run."""
        self._sequence += 1
        if self._sealing is None or self._sealing[0] != epoch:
            self._sealing = (epoch, _cipher(self._ring.keys[0], self._sender, epoch))
        header = _header(self._sender, epoch, self._sequence)
        body = self._encoder.encode(message)
        return header + self._sealing[1].encrypt(_nonce(self._sequence), body, header)

    def open(self, datagram: bytes) -> Envelope | None:
        """The message in ``datagram``; None when it is dropped."""
        parsed = _parse(datagram)
        if parsed is None:
            self.dropped.garbage += 1
            return None
        sender, epoch, sequence, header = parsed
        opened = self._unseal(sender, epoch, sequence, header, datagram[len(header) :])
        if opened is None:
            self.dropped.unsealed += 1
            return None
        body, run = opened
        if not self._fresh(sender, run, sequence):
            self.dropped.replayed += 1
            return None
        message = self._decode(body)
        if message is None:
            self.dropped.garbage += 1
            return None
        return Envelope(sender, epoch, sequence, message)

    def _unseal(
        self, sender: str, epoch: int, sequence: int, header: bytes, sealed: bytes
    ) -> tuple[bytes, _Run] | None:
        known = self._runs.get(sender)
        keys = self._ring.keys
        if known is not None and known.epoch == epoch and known.key in keys:
            body = _decrypt(known.cipher, sequence, sealed, header)
            if body is not None:
                return body, known
            keys = tuple(key for key in keys if key != known.key)
        for key in keys:
            cipher = _cipher(key, sender, epoch)
            body = _decrypt(cipher, sequence, sealed, header)
            if body is not None:
                if known is not None and known.epoch == epoch:
                    known.key, known.cipher = key, cipher
                    return body, known
                return body, _Run(epoch, key, cipher)
        return None

    def _fresh(self, sender: str, run: _Run, sequence: int) -> bool:
        known = self._runs.get(sender)
        if known is not None and run.epoch < known.epoch:
            return False
        self._runs[sender] = run
        self._runs.move_to_end(sender)
        if len(self._runs) > _MAX_SENDERS:
            self._runs.popitem(last=False)
        return run.fresh(sequence)

    def _decode(self, body: bytes) -> Message | None:
        try:
            message = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        hosts = {update.host for update in message.updates}
        if isinstance(message, PingRequest):
            hosts.add(message.host)
        return message if all(_is_ip(host) for host in hosts) else None


def _header(sender: str, epoch: int, sequence: int) -> bytes:
    name = sender.encode()
    return bytes((_VERSION, len(name))) + name + epoch.to_bytes(8, "big") + sequence.to_bytes(8, "big")


def _parse(datagram: bytes) -> tuple[str, int, int, bytes] | None:
    if len(datagram) < 2 or datagram[0] != _VERSION or not 1 <= datagram[1] <= MAX_ID_BYTES:
        return None
    end = 2 + datagram[1]
    if len(datagram) < end + 16 + _TAG_BYTES:
        return None
    try:
        sender = datagram[2:end].decode()
    except UnicodeDecodeError:
        return None
    epoch = int.from_bytes(datagram[end : end + 8], "big")
    sequence = int.from_bytes(datagram[end + 8 : end + 16], "big")
    return sender, epoch, sequence, datagram[: end + 16]


def _cipher(key: bytes, sender: str, epoch: int) -> AESGCM:
    """The cipher of one run.  BLAKE2b keyed with the swarm's key is the derivation."""
    run = epoch.to_bytes(8, "big") + sender.encode()
    return AESGCM(hashlib.blake2b(run, key=key, digest_size=KEY_BYTES, person=b"swarmd gossip 1").digest())


def _nonce(sequence: int) -> bytes:
    return sequence.to_bytes(12, "big")


def _decrypt(cipher: AESGCM, sequence: int, sealed: bytes, header: bytes) -> bytes | None:
    try:
        return cipher.decrypt(_nonce(sequence), sealed, header)
    except InvalidTag:
        return None


@functools.lru_cache(maxsize=16_384)
def _is_ip(host: str) -> bool:
    """Only numeric addresses: a name would send the socket to the resolver, and block."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
