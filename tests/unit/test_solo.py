"""Single containers: when they start again, and which are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swarmd.model.errors import Conflict, Invalid, SwarmError
from swarmd.model.spec import ContainerSpec
from swarmd.node.solo.core.policy import FIRST, MOST, starts_again, starts_with_daemon, wait_before
from swarmd.node.solo.core.record import Record, Restart, check, parse_restart
from swarmd.node.solo.shelf import Shelf


def a_record(name: str = "box", restart: str = "no", **fields: Any) -> Record:
    fields.setdefault("id", f"id-{name}")
    return Record(
        name=name,
        image="busybox",
        spec=ContainerSpec(image="busybox"),
        restart=parse_restart(restart),
        **fields,
    )


@pytest.mark.parametrize(
    ("text", "restart"),
    [
        ("", Restart()),
        ("no", Restart()),
        ("always", Restart("always")),
        ("unless-stopped", Restart("unless-stopped")),
        ("on-failure", Restart("on-failure")),
        ("on-failure:3", Restart("on-failure", 3)),
    ],
)
def test_a_restart_policy_is_read(text: str, restart: Restart) -> None:
    assert parse_restart(text) == restart


@pytest.mark.parametrize("text", ["sometimes", "always:3", "on-failure:x", "on-failure:-1", "no:1"])
def test_a_restart_policy_that_is_none_is_quoted(text: str) -> None:
    with pytest.raises(Invalid, match=f'"{text}"'):
        parse_restart(text)


@pytest.mark.parametrize(
    ("restart", "code", "restarts", "again"),
    [
        ("no", 1, 0, False),
        ("always", 0, 99, True),
        ("unless-stopped", 0, 0, True),
        ("on-failure", 0, 0, False),
        ("on-failure", 1, 99, True),
        ("on-failure:2", 1, 1, True),
        ("on-failure:2", 1, 2, False),
    ],
)
def test_an_end_that_nobody_asked_for(restart: str, code: int, restarts: int, again: bool) -> None:
    assert starts_again(a_record(restart=restart, wanted=True, restarts=restarts), code) is again
    assert starts_again(a_record(restart=restart, wanted=False, restarts=restarts), code) is False


@pytest.mark.parametrize(
    ("restart", "wanted", "by_user", "starts"),
    [
        ("no", True, False, False),
        ("always", False, True, True),
        ("unless-stopped", False, True, False),
        ("unless-stopped", True, False, True),
        ("on-failure", False, True, False),
    ],
)
def test_what_a_starting_daemon_starts(restart: str, wanted: bool, by_user: bool, starts: bool) -> None:
    record = a_record(restart=restart, wanted=wanted, by_user=by_user)
    assert starts_with_daemon(record, 255) is starts


def test_the_wait_doubles_up_to_a_minute_and_begins_anew_after_a_steady_run() -> None:
    waits, last = [], 0.0
    for _ in range(12):
        last = wait_before(last, 1.0)
        waits.append(last)
    assert waits[:4] == [FIRST, 0.2, 0.4, 0.8]
    assert waits[-1] == MOST
    assert wait_before(MOST, 11.0) == FIRST


@pytest.mark.parametrize(
    ("record", "kind", "words"),
    [
        (
            a_record("taken", id="other"),
            Conflict,
            'The container name "taken" is already in use by container',
        ),
        (a_record("a"), Invalid, 'invalid container name "a"'),
        (a_record("bad name"), Invalid, 'invalid container name "bad name"'),
        (a_record(network="bridge"), Invalid, 'invalid network "bridge"'),
        (a_record(restart="always", auto_remove=True), Invalid, "exclude each other"),
    ],
)
def test_what_cannot_be_is_refused(record: Record, kind: type[SwarmError], words: str) -> None:
    with pytest.raises(kind, match=words):
        check(record, [a_record("taken")])


def test_what_is_put_on_the_shelf_is_there_again_and_a_torn_record_is_not(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    assert shelf.load() == []
    kept = [a_record("two", created_at=2.0), a_record("one", restart="on-failure:3", created_at=1.0)]
    for record in kept:
        shelf.save(record)
    (tmp_path / "solo/torn").mkdir()
    (tmp_path / "solo/torn/record.json").write_text('{"id":')
    assert Shelf(tmp_path).load() == kept[::-1]
    assert not (tmp_path / "solo/torn").exists()
    shelf.remove("id-two")
    assert Shelf(tmp_path).load() == kept[1:]
