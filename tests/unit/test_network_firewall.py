"""Firewalls of other programs: which of them is in the way, and what is said."""

from __future__ import annotations

from swarmd.node.network.core import firewall
from swarmd.node.network.core.firewall import FORWARD, Chain


def nothing(family: str, table: str, chain: str) -> bool:
    return False


def test_a_chain_that_drops_what_is_forwarded_is_named_with_its_cure() -> None:
    chains = [
        Chain("inet", "filter", "input", hook=1, drops=True),
        Chain("inet", "filter", "forward", hook=FORWARD, drops=True),
        Chain("inet", "other", "forward", hook=FORWARD),
        Chain("ip", "swarmd", "c_fwd", hook=FORWARD, drops=True),
    ]
    (sentence,) = firewall.sentences(chains, nothing)
    assert sentence.startswith("nftables chain inet filter forward drops what this node passes on")
    assert "nft 'insert rule inet filter forward iifname vx0 accept; insert rule" in sentence


def test_docker_is_given_iptables_commands_for_the_chain_it_leaves_to_users() -> None:
    docker = [
        Chain("ip", "filter", "FORWARD", hook=FORWARD, drops=True),
        Chain("ip", "filter", "DOCKER-USER"),
    ]
    (sentence,) = firewall.sentences(docker, nothing)
    assert "iptables -I DOCKER-USER -i vx0 -j ACCEPT; " in sentence
    (plain,) = firewall.sentences([Chain("ip6", "filter", "FORWARD", hook=FORWARD, drops=True)], nothing)
    assert "ip6tables -I FORWARD -o vx0 -j ACCEPT; " in plain


def test_a_rule_that_names_the_overlay_ends_it_where_it_counts() -> None:
    docker = [
        Chain("ip", "filter", "FORWARD", hook=FORWARD, drops=True),
        Chain("ip", "filter", "DOCKER-USER"),
    ]
    assert firewall.sentences(docker, lambda *where: where == ("ip", "filter", "DOCKER-USER")) == ()
    assert firewall.sentences(docker, lambda *where: where == ("ip", "filter", "FORWARD")) == ()
    assert len(firewall.sentences(docker, lambda *where: where == ("ip6", "filter", "FORWARD"))) == 1


def test_firewalld_rejects_by_a_rule_and_is_asked_about_all_its_chains() -> None:
    chains = [
        Chain("inet", "firewalld", "filter_FORWARD", hook=FORWARD),
        Chain("inet", "firewalld", "mangle_FORWARD", hook=FORWARD),
    ]
    (sentence,) = firewall.sentences(chains, nothing)
    assert "firewall-cmd --permanent --zone=trusted --add-interface=vx0" in sentence
    assert firewall.sentences(chains, lambda *where: where == ("inet", "firewalld", "")) == ()


def test_the_older_iptables_is_judged_by_its_listing() -> None:
    listing = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n"
    assert "iptables-legacy -I DOCKER-USER -i vx0" in firewall.legacy("iptables-legacy", listing)
    assert firewall.legacy("iptables-legacy", listing + "-A DOCKER-USER -i vx0 -j ACCEPT\n") == ""
    assert firewall.legacy("iptables-legacy", "-P FORWARD ACCEPT\n") == ""
