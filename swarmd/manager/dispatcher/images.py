"""Which node holds which image: memory of the leader, told anew by every node at each session."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from swarmd.model import image_ref
from swarmd.model.errors import Invalid
from swarmd.model.image_ref import ImageRef


class ImageIndex:
    """Image names of all connected nodes."""

    def __init__(self) -> None:
        self._held: dict[str, Mapping[str, str]] = {}

    def report(self, node_id: str, images: Mapping[str, str]) -> None:
        """A node's whole inventory: {familiar name with tag: manifest digest}."""
        self._held[node_id] = dict(images)

    def forget(self, node_id: str) -> None:
        self._held.pop(node_id, None)

    def locate(self, ref: ImageRef, *, prefer: str = "") -> tuple[str, list[str]]:
        """(digest, nodes that hold it); ("", []) when nobody does.

        Where nodes disagree about a tag, the node ``prefer`` decides, then the most frequent answer.
        """
        digest = ref.digest or self._digest(f"{ref.familiar_name()}:{ref.tag}", prefer)
        if not digest:
            return "", []
        holders = sorted(node for node, images in self._held.items() if digest in images.values())
        return (digest, holders) if holders else ("", [])

    def names(self, digest: str) -> set[str]:
        """Complete repositories that nodes hold a digest under, of a manifest or an index."""
        behind = f"@{digest}"
        called = {
            name
            for images in self._held.values()
            for name, held in images.items()
            if held == digest or name.endswith(behind)
        }
        found: set[str] = set()
        for name in called:
            with contextlib.suppress(Invalid):  # a node may say anything
                found.add(image_ref.parse(name).name)
        return found

    def _digest(self, name: str, prefer: str) -> str:
        preferred = self._held.get(prefer, {}).get(name)
        if preferred:
            return preferred
        counts: dict[str, int] = {}
        for images in self._held.values():
            if name in images:
                counts[images[name]] = counts.get(images[name], 0) + 1
        return max(sorted(counts), key=lambda digest: counts[digest], default="")
