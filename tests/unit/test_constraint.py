from __future__ import annotations

import pytest

from swarmd.model.constraint import Constraint, meets, parse
from swarmd.model.errors import Invalid
from swarmd.model.objects import Node, NodeDescription
from swarmd.model.spec import NodeSpec
from swarmd.model.states import Role

NODE = Node(
    id="abc123",
    role=Role.MANAGER,
    spec=NodeSpec(labels={"zone": "A", "Case": "x"}),
    description=NodeDescription(hostname="Box1", os="linux", arch="x86_64", labels={"disk": "ssd"}),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("node.id==ABC123", True),
        ("node.hostname == box1", True),
        ("node.hostname==box", False),
        ("node.role==manager", True),
        ("node.role!=manager", False),
        ("node.platform.os==linux", True),
        ("node.platform.arch==amd64", False),
        ("node.labels.zone==a", True),
        ("NODE.LABELS.zone==a", True),
        ("node.labels.case==x", False),
        ("node.labels.Case==X", True),
        ("node.labels.none!=x", True),
        ("node.labels.none==x", False),
        ("engine.labels.disk==ssd", True),
        ("engine.labels.disk!=ssd", False),
    ],
)
def test_a_value_is_compared_whole_without_case_and_a_missing_label_is_empty(
    text: str, expected: bool
) -> None:
    assert parse(text).matches(NODE) is expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("foo", "it needs one operator, == or !="),
        ("node.role=manager", "it needs one operator, == or !="),
        ("==x", "key '' is invalid"),
        ("node.labels.a b==x", "key 'node.labels.a b' is invalid"),
        ("node.labels.a==", "value '' is invalid"),
        ("node.labels.a==x@y", "value 'x@y' is invalid"),
        ("node.labels.a==x==y", "value 'x==y' is invalid"),
        ("node.colour==red", "unknown key 'node.colour'; known are node.id,"),
        ("node.labels.==red", "unknown key 'node.labels.'"),
    ],
)
def test_a_constraint_that_cannot_be_read_is_quoted_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text)
    assert str(caught.value).startswith(f'invalid constraint "{text}": {why}')


def test_spaces_around_key_and_value_do_not_matter() -> None:
    assert parse("  node.role  !=  worker ") == Constraint("node.role", False, "worker")


def test_a_node_has_to_meet_all_constraints_and_meets_none_that_is_unreadable() -> None:
    assert meets((), NODE)
    assert meets(("node.role==manager", "node.labels.zone==a"), NODE)
    assert not meets(("node.role==manager", "node.labels.zone==b"), NODE)
    assert not meets(("nonsense",), NODE)
