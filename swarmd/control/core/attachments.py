"""Decide whether a service can have the networks it asks for.  A refusal names field, value and way out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from swarmd.control.core import validate
from swarmd.model import subnets
from swarmd.model.errors import Invalid
from swarmd.model.network import PREDEFINED, NetworkAttachment, is_alias
from swarmd.model.objects import AddressAllocation, Network
from swarmd.model.replace import replace
from swarmd.model.spec import ServiceSpec

_LONE = ("host", "none")
_MODES = ("", "vip", "dnsrr")

Find = Callable[[str], Network]
"""A network by id, name or beginning of an id; raises NotFound."""
Taken = Callable[[str, str], AddressAllocation | None]
"""Who has (network id, address)."""


def check(spec: ServiceSpec) -> None:
    """What can be said without the store: raises Invalid with the first thing that is wrong."""
    template = spec.template
    if spec.endpoint_mode not in _MODES:
        raise Invalid(f'endpoint mode "{spec.endpoint_mode}" is not known: use vip or dnsrr')
    is_ingress = any(port.mode == "ingress" for port in spec.ports)
    if spec.endpoint_mode == "dnsrr" and is_ingress:
        raise Invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
    if template.drain_delay is not None:
        validate.seconds("drain-delay", template.drain_delay)
    validate.seconds("drain-timeout", template.drain_timeout)
    targets = [one.target for one in template.networks]
    for lone in _LONE:
        if lone in targets and len(targets) > 1:
            raise Invalid(f'network "{lone}" excludes all others: leave them out, or leave {lone} out')
    if "host" in targets and spec.ports:
        raise Invalid(
            'network "host" cannot be used with published ports: its tasks listen on their nodes\' own '
            "addresses, where a published port would be in their way; leave --publish out, or leave the "
            "network out"
        )
    if "none" in targets and spec.ports:
        raise Invalid('network "none" cannot be used with published ports: nothing reaches its tasks')
    for one in template.networks:
        _attachment(one, spec)


def resolved(spec: ServiceSpec, find: Find, taken: Taken, own: Mapping[str, int]) -> ServiceSpec:
    """The spec with ids for what it calls networks.

    ``own``: ids of the service and of its tasks.  A task that goes on until an update comes to its slot is
    there with the slot's number, all others with 0: their addresses are free soon.
    """
    networks = tuple(
        one if one.target in PREDEFINED else _resolved(one, find(one.target), taken, own)
        for one in spec.template.networks
    )
    for target, times in Counter(one.target for one in networks).items():
        if times > 1:
            name = target if target in PREDEFINED else find(target).name
            raise Invalid(f"network {name} is asked for {times} times")
    return spec if networks == spec.template.networks else _with(spec, networks)


def _with(spec: ServiceSpec, networks: tuple[NetworkAttachment, ...]) -> ServiceSpec:
    return replace(spec, template=replace(spec.template, networks=networks))


def _attachment(one: NetworkAttachment, spec: ServiceSpec) -> None:
    if not one.target:
        raise Invalid("network: write its name or id")
    for alias in one.aliases:
        if not is_alias(alias):
            raise Invalid(f'alias "{alias}" in network {one.target} cannot be a host name')
    for key in one.options:
        raise Invalid(f'driver-opt "{key}" of network {one.target} is not known: there are none')
    if one.target in PREDEFINED and (one.aliases or one.vip or one.addresses):
        raise Invalid(f"network {one.target} has no names and no addresses to choose: leave them out")
    if one.vip and spec.endpoint_mode == "dnsrr":
        raise Invalid(f"vip {one.vip} in network {one.target} cannot be used with endpoint mode dnsrr")
    if one.addresses:
        _per_slot(one, spec)


def _per_slot(one: NetworkAttachment, spec: ServiceSpec) -> None:
    if spec.mode != "replicated":
        raise Invalid(f"addresses in network {one.target} are by slot: a {spec.mode} service has none")
    if "start-first" in (spec.update.order, spec.rollback.order):
        raise Invalid(
            f"addresses in network {one.target} cannot be used with order start-first: a slot's old task has "
            "its address until it has ended; use stop-first"
        )


def _resolved(
    one: NetworkAttachment, network: Network, taken: Taken, own: Mapping[str, int]
) -> NetworkAttachment:
    if network.ingress:
        raise Invalid(f'Service cannot be explicitly attached to the ingress network "{network.name}"')
    wanted = enumerate((one.vip, *one.addresses))
    named = {slot: address for slot, address in wanted if address}
    for slot, address in named.items():
        _inside(address, network)
        holder = taken(network.id, address)
        if holder is not None and holder.owner_id not in own:
            raise Invalid(
                f"address {address} of network {network.name} is in use already: {holder.owner_kind} "
                f"{holder.owner_id} has it"
            )
        other = own[holder.owner_id] if holder is not None else 0
        if other not in (0, slot):
            raise Invalid(
                f"address {address} of network {network.name} is that of slot {other} now, which keeps it "
                "until the update comes to it, while the update waits for the address: scale the service "
                "to 0 first, or go by way of an address that is free"
            )
    for address, times in Counter(named.values()).items():
        if times > 1:
            raise Invalid(f"address {address} of network {network.name} is asked for {times} times")
    return replace(one, target=network.id)


def _inside(address: str, network: Network) -> None:
    prefixes = ", ".join(subnet.subnet for subnet in network.subnets)
    try:
        number, version = subnets.number(address), subnets.version_of(address)
    except ValueError as error:
        raise Invalid(f'"{address}" in network {network.name} is not an IP address') from error
    spans = [span for span in map(subnets.span, network.subnets) if span.version == version]
    if any(number in span.kept for span in spans):
        raise Invalid(f"address {address} of network {network.name} is its gateway's, or reserved")
    if not any(span.holds(number) for span in spans):
        raise Invalid(f"address {address} is not in network {network.name} ({prefixes})")
