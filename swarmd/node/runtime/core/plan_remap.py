"""The part of a plan that is otherwise where the users of a container are mapped to others of the host.

What only the host's root may do comes first: taking sources, mapping the ids of the layers, mounting the
overlay.  Then the child enters the new user namespace and clones itself into the other ones, which are
thereby that namespace's own; its clone has the spawner as parent and goes on.  /proc and /sys are made before
the root turns, while the host's are still in sight, as the kernel demands of a user namespace.
"""

from __future__ import annotations

import posixpath
from typing import Any

from swarmd.node.runtime.core import defaults, oci, plan_mounts
from swarmd.node.runtime.core.extensions import Extensions, Overlay
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.mountopts import parse

Step = tuple[Any, ...]

_EARLY = ("proc", "sysfs")
_FIRST_DEVICE = 10_000  # slots beyond any mount's


def is_remapped(spec: oci.Spec, extra: Extensions) -> bool:
    """Whether it is one of ours with a user namespace of its own; those of others make their roots fit."""
    space = spec.namespace("user")
    return extra.overlay is not None and space is not None and not space.path


def files(
    spec: oci.Spec, facts: HostFacts, layout: Layout, extra: Extensions, layers: Overlay, flags: int
) -> list[Step]:
    """From the sources to the finished tree; ``flags`` are the namespaces to be made in the new user's."""
    root = posixpath.join(layout.bundle or "/", spec.root.path if spec.root else "")
    first = spec.linux.uid_mappings[0].host_id
    sources, attachments = plan_mounts.mounts(spec, facts, layout, extra)
    early, late = _early(spec, attachments)
    nodes = _devices(spec)
    return [
        ("user_namespace", _lines(spec.linux.uid_mappings), _lines(spec.linux.gid_mappings)),
        ("streams", first, spec.linux.gid_mappings[0].host_id),
        *sources,
        *_mapped(spec),
        *(("source", slot, source, "", False, 0) for slot, source, _ in nodes),
        ("private",),
        *plan_mounts.layers(spec, root, extra),
        ("mapped_overlay", root, list(layers.lower), layers.upper, layers.work),
        ("inner", flags),
        *early,
        ("mapped_root",),
        *late,
        *(("attach", slot, target, 0, 0, 0, 0, [], False) for slot, _, target in nodes),
        ("links", [(target, path) for target, path in defaults.LINKS]),
    ]


def _lines(mappings: tuple[oci.IdMapping, ...]) -> str:
    return "".join(f"{each.container_id} {each.host_id} {each.size}\n" for each in mappings)


def _mapped(spec: oci.Spec) -> list[Step]:
    """Sources whose files keep the numbers of the container, such as volumes."""
    options = [parse(mount.options) for mount in spec.mounts]
    return [("idmap", slot, each.below_idmap) for slot, each in enumerate(options) if each.idmap]


def _early(spec: oci.Spec, steps: list[Step]) -> tuple[list[Step], list[Step]]:
    """New file systems of a kind that must be made before the root turns, and all steps with those put in."""
    early: list[Step] = []
    late: list[Step] = []
    for number, step in enumerate(steps):
        if step[0] == "mount" and step[2] in _EARLY:
            _, target, kind, source, data, attributes, *_ = step
            slot = -2 - number
            early.append(("filesystem", slot, kind, source, data, attributes))
            late.append(("attach", slot, target, 0, 0, 0, 0, [], False))
        else:
            late.append(step)
    return early, late


def _devices(spec: oci.Spec) -> list[tuple[int, str, str]]:
    """(slot, path on the host, path in the container): nobody but the host's root can make a node."""
    paths = [f"/dev/{name}" for name, *_ in defaults.NODES] + [device.path for device in spec.linux.devices]
    return [(_FIRST_DEVICE + number, path, path) for number, path in enumerate(dict.fromkeys(paths))]
