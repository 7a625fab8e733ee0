"""What a user gets wrong: one sentence, the right exit code, nothing half done."""

from __future__ import annotations

import pytest

from tests.cluster.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.cluster]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--no-such-flag", "nginx:1.12"), 125, "unknown flag"),
        (("--publish", "99999:80", "nginx:1.12"), 125, "99999"),
        (("--replicas", "many", "nginx:1.12"), 125, "many"),
        (("--name", "bad name!", "nginx:1.12"), 1, "name"),
        (("--constraint", "node.color==blue", "nginx:1.12"), 1, "node.color"),
        (("--constraint", "node.role", "nginx:1.12"), 1, "node.role"),
        (("--mount", "type=bind,source=relative,target=/x", "nginx:1.12"), 1, "relative"),
        (("--reserve-memory", "1k", "nginx:1.12"), 1, "memory"),
        (("UPPER:case",), 1, "UPPER:case"),
    ],
)
def test_bad_input_is_refused_with_a_sentence_and_makes_nothing(
    lab: Lab, words: tuple[str, ...], code: int, said: str
) -> None:
    assert said in lab.refusal("service", "create", "--detach", *words, code=code)
    assert lab.ask("service", "ls", "-q") == ""


def test_a_name_and_a_port_belong_to_one_service(lab: Lab) -> None:
    lab.create("owner", "--publish", "8080:80")
    assert "owner" in lab.refusal("service", "create", "--detach", "--name", "owner", "nginx:1.12")
    sentence = lab.refusal(
        "service", "create", "--detach", "--name", "other", "--publish", "8080:80", "nginx:1.12"
    )
    assert "8080" in sentence
    assert "owner" in sentence
    assert lab.ask("service", "ls", "--format", "{{.Name}}") == "owner"
    lab.ask("service", "rm", "owner")
    lab.create("other", "--publish", "8080:80")
    lab.until_running("other", 1)
    lab.until_answered(8080)


def test_what_is_not_there_is_named(lab: Lab) -> None:
    for words in (
        ("service", "ps", "ghost"),
        ("service", "inspect", "ghost"),
        ("service", "rm", "ghost"),
        ("service", "logs", "ghost"),
        ("service", "update", "--detach", "--replicas", "2", "ghost"),
        ("node", "inspect", "ghost"),
        ("node", "update", "--availability", "drain", "ghost"),
    ):
        assert "ghost" in lab.refusal(*words)


def test_a_managers_command_on_a_worker_says_where_to_ask(lab: Lab) -> None:
    for words in (("node", "ls"), ("service", "ls"), ("service", "create", "--detach", "nginx:1.12")):
        assert "not a swarm manager" in lab.refusal(*words, node="node2")
