"""What the agent keeps on disk, and which address it is known by."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from swarmd.model.errors import Invalid, Unavailable
from swarmd.model.replace import replace
from swarmd.model.spec import TaskTemplate
from swarmd.model.states import TaskState
from swarmd.node import addresses
from swarmd.node.agent.core.record import TaskRecord
from swarmd.node.agent.taskdb import TaskDatabase
from swarmd.node.describe import describe

RECORD = TaskRecord(
    task_id="t1",
    service_id="s1",
    service_name="web",
    spec_version=1,
    slot=1,
    node_id="n1",
    desired=TaskState.RUNNING,
    template=TaskTemplate(),
)
ADDRESSES = {"lo": "127.0.0.1", "eth0": "192.0.2.7"}

# -- task database --------------------------------------------------------------------------------


async def test_records_are_there_again_after_the_daemon(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path / "tasks.db")
    assert await database.open() == []
    await database.put(RECORD)
    await database.put(replace(RECORD, task_id="t2"))
    await database.put(replace(RECORD, desired=TaskState.SHUTDOWN))
    await database.delete("t2")
    await database.close()
    again = TaskDatabase(tmp_path / "tasks.db")
    assert await again.open() == [replace(RECORD, desired=TaskState.SHUTDOWN)]
    await again.close()


async def test_a_record_that_cannot_be_read_is_dropped_and_the_others_kept(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path / "tasks.db")
    await database.open()
    await database.put(RECORD)
    await database.close()
    with sqlite3.connect(tmp_path / "tasks.db") as connection:
        connection.execute("INSERT INTO tasks VALUES ('bad', x'c100')")
    connection.close()
    for _ in range(2):
        again = TaskDatabase(tmp_path / "tasks.db")
        assert await again.open() == [RECORD]
        await again.close()


async def test_a_full_disk_is_unavailable_in_words_and_over_when_there_is_room(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path / "tasks.db")
    await database.open()
    await database.put(RECORD)

    def pages(limit: int) -> None:
        assert database._connection is not None
        database._connection.execute(f"PRAGMA max_page_count = {limit}")

    await database._run(lambda: pages(1))
    huge = replace(RECORD, task_id="huge", service_name="x" * 1_000_000)
    with pytest.raises(Unavailable, match="no space left for tasks in "):
        await database.put(huge)
    await database._run(lambda: pages(1 << 20))
    await database.put(replace(RECORD, task_id="last"))
    await database.close()


async def test_a_closed_database_is_unavailable_and_can_be_closed_twice(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path / "tasks.db")
    await database.open()
    await database.close()
    await database.close()
    with pytest.raises(Unavailable, match="is closed"):
        await database.put(RECORD)


async def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path / "no" / "tasks.db")
    with pytest.raises(Unavailable, match="cannot be used"):
        await database.open()
    with pytest.raises(Unavailable, match="not open"):
        await database.put(RECORD)
    await database.close()


# -- addresses, description -----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "eth0", "192.0.2.7", "192.0.2.7:2377", "eth0:2377", "0.0.0.0"])
def test_the_address_of_this_node_is_found_however_it_is_given(text: str) -> None:
    assert addresses.resolve(text, ADDRESSES) == "192.0.2.7"


@pytest.mark.parametrize(
    ("text", "known", "said"),
    [
        ("eth9", ADDRESSES, "neither an IP address nor an interface"),
        ("192.0.2.8", ADDRESSES, "is not an address of this node"),
        ("", {"lo": "127.0.0.1"}, "no address that others could reach"),
        ("", {**ADDRESSES, "eth1": "198.51.100.1"}, "multiple addresses"),
    ],
)
def test_an_address_that_cannot_be_is_refused_in_words(text: str, known: dict[str, str], said: str) -> None:
    with pytest.raises(Invalid, match=said):
        addresses.resolve(text, known)


def test_this_machine_is_described() -> None:
    assert addresses.interface_addresses()["lo"] == "127.0.0.1"
    described = describe("1.0", {"disk": "ssd"})
    assert described.nano_cpus >= 10**9
    assert described.memory > 1 << 20
    assert (described.engine_version, described.labels) == ("1.0", {"disk": "ssd"})
