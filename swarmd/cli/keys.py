"""The keys that leave a session without ending it: ``ctrl-p,ctrl-q``.  Pure."""

from __future__ import annotations

DEFAULT = "ctrl-p,ctrl-q"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_keys(text: str) -> bytes:
    """The bytes of ``a``, ``ctrl-x`` or several of them with commas.  Raises ValueError."""
    return bytes(_key(part) for part in text.split(","))


def _key(text: str) -> int:
    if len(text) == 1 and text.isascii():
        return ord(text)
    letter = text.removeprefix("ctrl-").lower()
    if text.startswith("ctrl-") and len(letter) == 1:
        if "a" <= letter <= "z":
            return ord(letter) - ord("a") + 1
        if letter in _SPECIAL:
            return _SPECIAL[letter]
    raise ValueError(f"Unknown character: '{text}'; write a character or ctrl-X, several with commas")


class Escape:
    """Watches what is typed for a sequence of keys; its beginning is held back until it is another thing."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what is to be sent, whether the sequence is complete); what follows it is dropped."""
        out = bytearray()
        for byte in data:
            if self._sequence and byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    return bytes(out), True
                continue
            out += self._sequence[: self._matched]
            self._matched = 1 if self._sequence[:1] == bytes([byte]) else 0
            if not self._matched:
                out.append(byte)
        return bytes(out), False
