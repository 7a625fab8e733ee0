"""Loads the ruleset by ``nft``: at start and after a foreign flush, never on the path of an update."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping

from swarmd.model.errors import Unavailable
from swarmd.node.network.core import rules
from swarmd.node.network.core.family import FAMILIES, Family
from swarmd.node.network.core.rules import OVERLAY, TABLE, VETH_GROUP, Options

__all__ = ["OVERLAY", "TABLE", "VETH_GROUP", "Options", "base", "load", "remove"]


def base(families: Iterable[Family], options: Options) -> tuple[str, Mapping[Family, str]]:
    """(text that replaces our tables of these families in one transaction, by family the set that exists
    exactly when this very text is loaded)."""
    made = {family: rules.table(family, options) for family in families}
    return "".join(text for text, _ in made.values()), {
        family: marker for family, (_, marker) in made.items()
    }


async def load(text: str, *, dry_run: bool = False) -> None:
    """Give ``text`` to nft.  Raises :class:`Unavailable` with nft's own words when it is refused."""
    program = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin")
    if program is None:
        raise Unavailable("the program nft is not installed; install the package nftables")
    process = await asyncio.create_subprocess_exec(
        program, *(["-c"] if dry_run else []), "-f", "-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, complaint = await process.communicate(text.encode())
    if process.returncode:
        first = complaint.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Unavailable(f"nft refused the ruleset: {first[0]}")


async def remove(families: Iterable[Family] = FAMILIES) -> None:
    """Delete our tables of these families; one that is not there is no error."""
    await load("".join(rules.removal(family) for family in families))
