"""Join tokens that users make: what may be asked for, what is shown, when they go."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from swarmd.api import tokens as api
from swarmd.control.tokens import MOST, Tokens, Wanted
from swarmd.manager.core.endings import KEPT, plan_ending
from swarmd.manager.ending import EndingPlanner
from swarmd.manager.loop import ControlLoop
from swarmd.model.errors import Invalid, NotFound, Refused, Unavailable
from swarmd.model.objects import Cluster, JoinToken, Node, RemovedNode
from swarmd.model.replace import replace
from swarmd.model.states import Availability, Role
from swarmd.rpc.v1 import control_pb2 as pb
from swarmd.security import ca, tokens
from swarmd.store.core.transaction import Delete
from tests.unit.test_control_bed import Bed, eventually, settle


class Desk(Bed):
    """A swarm whose users make tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.root, _ = ca.new_root(self.clock.now())
        self.tokens = Tokens(self.store, self.clock, self.new_id)

    def new_id(self) -> str:
        return super().new_id().rjust(25, "0")

    async def create(self, **fields: Any) -> tuple[str, JoinToken]:
        return await self.tokens.create(Wanted(**{"role": "worker", **fields}))


@pytest.fixture
async def desk() -> Desk:
    desk = Desk()
    await desk.put(Cluster(id="c1", root_ca=desk.root))
    return desk


async def test_a_token_is_told_once_and_only_its_hash_is_kept(desk: Desk) -> None:
    text, row = await desk.create(
        role="manager", labels={"zone": "a"}, availability="drain", description="x", lifetime=60, max_uses=3
    )
    parsed = tokens.parse_token(text)
    assert parsed.ca_digest == tokens.ca_digest(desk.root)
    assert row.secret_hash == tokens.secret_hash(parsed.secret)
    assert parsed.secret.encode() not in b"".join(desk.state.view()())
    assert (row.role, row.labels, row.availability) == (Role.MANAGER, {"zone": "a"}, Availability.DRAIN)
    assert (row.description, row.max_uses, row.uses) == ("x", 3, 0)
    assert row.expires_at == desk.clock.now() + 60


async def test_what_users_see_of_a_token_has_nothing_of_its_secret(desk: Desk) -> None:
    text, row = await desk.create()
    shown = api.view(desk.tokens, row).SerializeToString()
    assert row.secret_hash.encode() not in shown
    assert tokens.parse_token(text).secret.encode() not in shown


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"role": "boss"}, 'unknown role "boss": use worker or manager'),
        ({"availability": "off"}, 'invalid Availability: "off"'),
        ({"lifetime": -1.0}, "expires must be between 0s"),
        ({"lifetime": float("nan")}, "expires must be between 0s"),
        ({"max_uses": -1}, "uses must be 0 (any number) or more, not -1"),
        ({"description": "x" * 201}, "description must be 200 characters or fewer, not 201"),
        ({"labels": {"": "x"}}, 'label "": key and value'),
        ({"labels": {"a": "x" * 201}}, 'label "a": key and value'),
    ],
)
async def test_a_token_that_makes_no_sense_is_refused(desk: Desk, fields: Any, said: str) -> None:
    with pytest.raises(Invalid, match=re.escape(said)):
        await desk.create(**fields)
    assert desk.tokens.all() == []


async def test_before_the_first_rows_there_are_no_tokens() -> None:
    with pytest.raises(Unavailable, match="not initialised yet"):
        await Desk().create()


async def test_there_is_a_limit_to_how_many_there_are(desk: Desk) -> None:
    await desk.put(*(JoinToken(id=f"t{number}", secret_hash=f"h{number}") for number in range(MOST)))
    with pytest.raises(Refused, match=f"the swarm has {MOST} join tokens"):
        await desk.create()


async def test_a_token_is_found_by_a_prefix_and_removed_for_good(desk: Desk) -> None:
    await desk.put(JoinToken(id="abc1", secret_hash="h1"), JoinToken(id="abd2", secret_hash="h2"))
    assert desk.tokens.get("abc").id == "abc1"
    with pytest.raises(Invalid, match="join token ab is ambiguous"):
        desk.tokens.get("ab")
    desk.quicker(lambda: replace(desk.tokens.get("abc1"), uses=1))
    assert await desk.tokens.remove("abc") == "abc1"
    with pytest.raises(NotFound, match="join token abc1 not found"):
        await desk.tokens.remove("abc1")


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "valid"),
        ({"expires_at": 1.0}, "expired"),
        ({"expires_at": 4e9}, "valid"),
        ({"max_uses": 2, "uses": 1}, "valid"),
        ({"max_uses": 2, "uses": 2}, "used up"),
    ],
)
async def test_a_token_says_whether_it_is_still_good(desk: Desk, fields: Any, state: str) -> None:
    assert desk.tokens.state(JoinToken(id="t", secret_hash="h", **fields)) == state


async def test_a_request_becomes_a_token_with_all_it_asks_for(desk: Desk) -> None:
    request = pb.CreateTokenRequest(
        role="worker", labels={"a": "b"}, availability="pause", description="d", lifetime=5.0, max_uses=2
    )
    answer = await api.create(desk.tokens, request)
    view = answer.view
    assert tokens.parse_token(answer.token)
    assert (view.role, dict(view.labels), view.availability, view.description) == (
        "worker", {"a": "b"}, "pause", "d",
    )  # fmt: skip
    assert (view.max_uses, view.uses, view.state, view.created_at) == (2, 0, "valid", desk.clock.now())
    assert view.expires_at == desk.clock.now() + 5


# -- the end of a token --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "at"),
    [
        (JoinToken(id="t", secret_hash="h"), None),
        (JoinToken(id="t", secret_hash="h", max_uses=2, uses=1, updated_at=50.0), None),
        (JoinToken(id="t", secret_hash="h", expires_at=100.0), 100.0 + KEPT),
        (JoinToken(id="t", secret_hash="h", max_uses=1, uses=1, updated_at=50.0), 50.0 + KEPT),
        (JoinToken(id="t", secret_hash="h", max_uses=1, uses=1, updated_at=50.0, expires_at=20.0), 20 + KEPT),
        (RemovedNode(id="n", until=70.0), 70.0),
    ],
)
def test_a_row_stays_for_as_long_as_it_is_of_use(row: JoinToken | RemovedNode, at: float | None) -> None:
    if at is None:
        assert plan_ending(row, now=4e9).steps == ()
        return
    early, late = plan_ending(row, now=at - 1), plan_ending(row, now=at)
    assert (early.steps, early.wake_at) == ((), at)
    assert late.steps == ((Delete(type(row), row.id, row.version),),)


async def test_the_leader_removes_what_has_ended_and_nothing_else(desk: Desk) -> None:
    now = desk.clock.now()
    await desk.put(
        JoinToken(id="ends", secret_hash="h1", expires_at=now + 60),
        JoinToken(id="stays", secret_hash="h2"),
        RemovedNode(id="gone", until=now + 90),
        Node(id="n1", number=1),
    )
    loop = ControlLoop(desk.store, desk.clock, EndingPlanner(desk.store))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(loop.run())
        await settle()
        desk.clock.advance(90)
        await eventually(lambda: not desk.store.all(RemovedNode))
        assert len(desk.store.all(JoinToken)) == 2, "a token is remembered for a day after its end"
        await desk.put(JoinToken(id="new", secret_hash="h3", expires_at=now + 100))
        await settle()
        desk.clock.advance(KEPT + 10)
        await eventually(lambda: {row.id for row in desk.store.all(JoinToken)} == {"stays"})
        assert len(desk.store.all(Node)) == 1
        running.cancel()
