"""What the leader knows of the nodes' images: blobs by digest, what a name means, how preloading goes."""

from __future__ import annotations

from collections.abc import AsyncIterator

from swarmd.manager.dispatcher.blobs import BlobIndex
from swarmd.manager.dispatcher.core.pullers import PULL_LIMIT
from swarmd.manager.dispatcher.holdings import Holdings
from swarmd.manager.dispatcher.preloads import ABSENT, LOST, Preloads
from swarmd.model import image_ref
from swarmd.model.objects import Node, NodeStatus
from swarmd.model.registry import RegistryManifest
from swarmd.model.states import Role
from swarmd.rpc.v1 import agent_pb2
from tests.unit.test_control_bed import Bed

ONE, TWO = (f"sha256:{letter * 64}" for letter in "ab")


def blobs(*added: str, removed: tuple[str, ...] = (), complete: bool = False) -> agent_pb2.BlobInventory:
    return agent_pb2.BlobInventory(
        complete=complete,
        added=[bytes.fromhex(digest[7:]) for digest in added],
        removed=[bytes.fromhex(digest[7:]) for digest in removed],
    )


def test_holders_follow_what_nodes_say() -> None:
    index = BlobIndex()
    index.take("n1", blobs(ONE, complete=True))
    index.take("n2", blobs(ONE, TWO, complete=True))
    assert set(index.holders(ONE)) == {"n1", "n2"}
    index.take("n2", blobs(removed=(ONE,)))
    assert set(index.holders(ONE)) == {"n1"}
    index.take("n1", blobs(TWO, complete=True))
    assert (set(index.holders(ONE)), set(index.holders(TWO))) == (set(), {"n1", "n2"})
    index.forget("n2")
    assert set(index.holders(TWO)) == {"n1"}
    assert not index.holders("no digest")


def test_only_some_holders_are_named() -> None:
    index = BlobIndex()
    for number in range(50):
        index.take(f"n{number}", blobs(ONE, complete=True))
    assert len(index.some(ONE, lambda: 0.5)) == 12


async def test_a_name_means_what_the_registry_says_before_what_nodes_have() -> None:
    bed = Bed()
    registered = {"localhost:5000/app:1": ONE}
    holdings = Holdings(
        bed.store, bed.clock, lambda node, order: True, lambda ref: registered.get(ref.familiar(), "")
    )
    await bed.put(
        Node(id="n1", role=Role.MANAGER, status=NodeStatus(address="10.0.0.1")),
        RegistryManifest(id=f"app@{ONE}", repository="app", digest=ONE),
    )
    inventory = agent_pb2.ImageInventory()
    inventory.images.add(ref="localhost:5000/app:1", digest=TWO)
    inventory.images.add(ref="other:1", digest=TWO)
    holdings.take("n1", agent_pb2.AgentMessage(images=inventory))
    ours, other = image_ref.parse("localhost:5000/app:1"), image_ref.parse("other:1")
    assert (holdings.digest_of(ours), holdings.digest_of(other)) == (ONE, TWO)
    assert holdings.locate(ours) == (ONE, []), "it is the registry's: managers have it"
    assert holdings.locate(other) == (TWO, ["n1"])
    assert holdings.locate(image_ref.parse("third:1")) == ("", [])
    assert holdings.having(TWO) == {"n1"}
    (holder,) = holdings.holders(["n1", "gone"])
    assert (holder.address, holder.manager) == ("10.0.0.1", True)
    holdings.take("n1", agent_pb2.AgentMessage(blobs=blobs(ONE, complete=True)))
    found = holdings.blob_holders([ONE, TWO]).blobs
    assert [(one.digest, len(one.holders)) for one in found] == [(ONE, 1), (TWO, 0)]


async def test_few_nodes_get_an_image_from_outside_and_the_others_wait_for_them() -> None:
    bed = Bed()
    holdings = Holdings(bed.store, bed.clock, lambda node, order: True, lambda ref: "")
    ref = image_ref.parse("outside.example.com/app:1")
    waits = {name: holdings.answer(ref, name).wait for name in ("n1", "n2", "n3", "n1")}
    assert waits == {"n1": False, "n2": False, "n3": True}
    bed.clock.advance(PULL_LIMIT + 1)
    assert not holdings.answer(ref, "n3").wait, "those before have failed, it seems"
    assert holdings.answer(ref, "n4").wait is False
    assert holdings.answer(ref, "n5").wait
    holdings.not_pulled(ref)
    assert not holdings.answer(ref, "n5").wait, "it will get its own error"
    inventory = agent_pb2.ImageInventory()
    inventory.images.add(ref=ref.familiar(), digest=ONE)
    holdings.take("n1", agent_pb2.AgentMessage(images=inventory))
    answer = holdings.answer(ref, "n4")
    assert (answer.digest, answer.wait) == (ONE, False)


async def heard(news: AsyncIterator[tuple[str, agent_pb2.PreloadStatus]]) -> list[tuple[str, str, str]]:
    return [(node_id, status.state, status.message) async for node_id, status in news]


async def test_a_preload_ends_when_each_node_has_said_how_it_ended() -> None:
    orders: dict[str, agent_pb2.Preload] = {}

    def tell(node_id: str, order: agent_pb2.Preload) -> bool:
        if node_id != "absent":
            orders[node_id] = order
        return node_id != "absent"

    preloads = Preloads(tell)
    news = preloads.begin("app:1", ["n1", "n2", "absent"])
    key = orders["n1"].id
    preloads.take("n1", agent_pb2.PreloadStatus(id=key, state="fetching", current=1))
    preloads.take("n1", agent_pb2.PreloadStatus(id=key, state="done"))
    preloads.take("n9", agent_pb2.PreloadStatus(id=key, state="done"))
    preloads.take("n1", agent_pb2.PreloadStatus(id="of another term", state="failed"))
    preloads.gone("n2")
    assert sorted(await heard(news)) == [
        ("absent", "failed", ABSENT),
        ("n1", "done", ""),
        ("n2", "failed", LOST),
    ]
    assert await heard(preloads.begin("app:1", ["absent"])) == [("absent", "failed", ABSENT)]
