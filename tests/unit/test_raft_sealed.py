"""Managers that seal what they hold, each with keys of its own: nothing changes for the group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from swarmd.security.vault import Locked, Vault
from swarmd.store.raft.node import RaftNode
from tests.unit.test_raft_group import Group, members, until

pytestmark = pytest.mark.usefixtures("skipping_time")

SECRET = b"what nobody may read %d"


class SealedGroup(Group):
    """``keys``: what opens the vault of each manager after a restart."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.vaults: dict[str, Vault] = {}
        self.keys: dict[str, bytes] = {}

    def make(self, name: str, **options: object) -> RaftNode:
        vault = self.vaults[name] = Vault(self.directory / f"vault-{name}")
        if not vault.exists:
            vault.create()
        try:
            vault.open_here()
        except Locked:
            vault.unlock(self.keys[name])
        return super().make(name, sealer=vault, roll_entries=20, **options)

    def lock(self, name: str, key: bytes) -> None:
        self.keys[name] = key
        self.vaults[name].rewrap(key, followed=self.vaults[name].ring.followed + 1)

    def files(self) -> list[Path]:
        return [path for path in self.directory.rglob("*") if path.is_file()]


@pytest.fixture
async def group(memory_path: Path) -> AsyncIterator[SealedGroup]:
    made = SealedGroup(memory_path)
    yield made
    for name in list(made.nodes):
        await made.kill(name)


async def test_a_group_rolls_grows_and_restarts_while_its_keys_change(group: SealedGroup) -> None:
    leader = await group.found("abc")
    expected = []
    for number in range(120):
        await leader.propose(SECRET % number)
        expected.append((SECRET % number).decode())
        if number % 25 == 10:
            for name in "abc":
                group.lock(name, bytes([number]) * 32)
    await group.join("d")
    await leader.change_members(members("abcd"))
    assert await group.agree("abcd") == expected, "d seals with keys of its own what it was given"

    for name in "abcd":
        await group.kill(name)
    assert [path for path in group.files() if b"nobody may read" in path.read_bytes()] == []
    for name in "abcd":
        await group.restart(name)
    await (await group.led()).propose(b"after")
    assert await group.agree("abcd") == [*expected, "after"]


async def test_keys_go_with_the_pieces_that_they_sealed(group: SealedGroup) -> None:
    leader = await group.found("abc")
    for key in range(1, 6):
        group.lock("b", bytes([key]) * 32)
    assert len(group.vaults["b"].ring.keys) == 6
    for number in range(70):
        await leader.propose(b"%d" % number)
    await until(lambda: group.vaults["b"].ring.keys.keys() == {5, 6})
    await group.agree("abc")
    await group.kill("b")
    await group.restart("b")
    assert (await group.agree("abc"))[-1] == "69"
