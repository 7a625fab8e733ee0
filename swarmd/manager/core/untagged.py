"""Decide which manifests of the swarm's registry nobody needs any more.

Kept are: what a tag leads to, what a service's spec names, what a kept one refers to, what is about a kept
one (signatures, inventories), and what has been without a tag for less than the time it is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from swarmd.manager.plan import Plan
from swarmd.model.registry import RegistryManifest
from swarmd.store.core.transaction import Delete


def plan_untagged(
    manifests: Collection[RegistryManifest],
    tagged: Iterable[str],
    named: Collection[str],
    *,
    now: float,
    keep: float,
) -> Plan:
    """The deletions that are due in one repository, and when to look again.

    ``tagged``: digests that tags lead to; ``named``: those in specs; ``keep``: seconds.
    """
    rows = {row.digest: row for row in manifests}
    needed = _needed(rows, {*tagged, *(digest for digest in named if digest in rows)})
    loose = [row for digest, row in rows.items() if digest not in needed]
    due = [row for row in loose if row.tagged_at + keep <= now]
    waiting = [row for row in loose if row.tagged_at + keep > now]
    # What a manifest refers to is kept as long as it is, however long it has had no tag itself.
    held = _needed(rows, {row.digest for row in waiting})
    steps = tuple((Delete(RegistryManifest, row.id, row.version),) for row in due if row.digest not in held)
    return Plan(steps=steps, wake_at=min((row.tagged_at + keep for row in waiting), default=None))


def _needed(rows: Mapping[str, RegistryManifest], roots: Iterable[str]) -> set[str]:
    about: dict[str, list[str]] = {}
    for row in rows.values():
        if row.subject:
            about.setdefault(row.subject, []).append(row.digest)
    found: set[str] = set()
    waiting = [digest for digest in roots if digest in rows]
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += [each for each in rows[digest].blobs if each in rows]
            waiting += about.get(digest, ())
    return found
