"""From what a container was told to be to a config.json any OCI runtime understands, with Docker's defaults.

What config.json has no word for is in ``extensions``.
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.model.errors import Invalid
from swarmd.node.runtime.core import bundle_mounts, defaults, oci
from swarmd.node.runtime.core.cgroups import PARENT
from swarmd.node.runtime.core.extensions import Extensions, Overlay, annotated
from swarmd.node.runtime.core.facts import HostFacts, Layout
from swarmd.node.runtime.core.linux import RLIMITS
from swarmd.node.runtime.core.seccomp import profile
from swarmd.node.runtime.core.seccomp_docker import UNCONFINED, from_docker
from swarmd.node.runtime.port import ContainerConfig

UNLIMITED = 2**64 - 1
INIT_TARGET = "/sbin/docker-init"
_DOCKERS_UMASK = 0o022


def bundle(
    config: ContainerConfig,
    facts: HostFacts,
    layout: Layout,
    *,
    peers: Mapping[str, int] | None = None,
    nodes: tuple[oci.Device, ...] = (),
    resources: oci.Resources | None = None,
) -> oci.Spec:
    """The spec of a config that has passed :func:`validate.validate`.

    ``peers``: the pids of the containers whose namespaces it asks for; ``nodes``: the device nodes to make
    beside the usual ones; ``resources``: limits and rules of devices.  Raises :class:`Invalid`.
    """
    remap, peers = remapping(config, facts), peers or {}
    namespaces = _namespaces(config, peers, remapped=bool(remap))
    own = {space.type for space in namespaces if not space.path}
    mounts = bundle_mounts.mounts(config, facts, layout, peers, remapped=bool(remap))
    return oci.Spec(
        oci_version=oci.VERSION,
        root=oci.Root(path=layout.root, readonly=config.read_only),
        process=process(config, facts),
        hostname=config.hostname if "uts" in own else "",
        domainname=config.domainname if "uts" in own else "",
        mounts=mounts.mounts,
        annotations=_annotations(config, layout, mounts),
        linux=oci.Linux(
            namespaces=namespaces,
            uid_mappings=remap,
            gid_mappings=remap,
            devices=nodes,
            cgroups_path=f"/{PARENT}/{config.id}",
            resources=resources,
            rootfs_propagation=mounts.propagation,
            sysctl=_sysctls(config, own),
            seccomp=seccomp_of(config, facts),
            masked_paths=_unless(config.privileged, facts.masked_files, facts.masked_dirs),
            readonly_paths=_unless(config.privileged, facts.readonly),
        ),
    )


def _unless(privileged: bool, *paths: tuple[str, ...]) -> tuple[str, ...]:
    return () if privileged else tuple(path for some in paths for path in some)


def remapping(config: ContainerConfig, facts: HostFacts) -> tuple[oci.IdMapping, ...]:
    """Who of the host its users are, if they are others; :class:`Invalid` where that cannot be."""
    first, size = facts.remap
    if not size or config.userns == "host":
        return ()
    modes = ("network_mode", "pid_mode", "ipc_mode", "uts_mode", "cgroupns_mode")
    asked = [name for name in modes if getattr(config, name) not in ("", "none", "private", "shareable")]
    asked += ["privileged"] if config.privileged else []
    if asked:
        raise Invalid(
            f"{asked[0]} is not possible where users are remapped (userns_remap of this node): "
            "add userns=host to run this container without that"
        )
    return (oci.IdMapping(container_id=0, host_id=first, size=size),)


def _namespaces(
    config: ContainerConfig, peers: Mapping[str, int], *, remapped: bool
) -> tuple[oci.Namespace, ...]:
    """``network_mode`` none is a namespace of its own that nobody connects."""
    out = [oci.Namespace(type="user")] if remapped else []
    out.append(oci.Namespace(type="mount"))
    modes: tuple[tuple[oci.NamespaceType, str, str], ...] = (
        ("network", "net", config.network_mode if config.network_mode != "none" else ""),
        ("pid", "pid", config.pid_mode),
        ("ipc", "ipc", config.ipc_mode),
        ("uts", "uts", config.uts_mode),
        ("cgroup", "cgroup", config.cgroupns_mode),
    )
    for kind, name, mode in modes:
        if mode in ("", "private", "shareable"):
            out.append(oci.Namespace(type=kind))
        elif mode != "host":
            out.append(oci.Namespace(type=kind, path=f"/proc/{_peer(name, mode, peers)}/ns/{name}"))
    return tuple(out)


def _peer(name: str, mode: str, peers: Mapping[str, int]) -> int:
    peer = mode.removeprefix("container:")
    if not peers.get(peer):
        raise Invalid(f"{name} mode {mode!r}: container {peer} is not running on this node")
    return peers[peer]


def process(config: ContainerConfig, facts: HostFacts) -> oci.Process:
    capabilities = config_capabilities(config, facts)
    held = tuple(f"CAP_{name}" for name in defaults.capability_order(capabilities))
    args = config.args
    if config.init:
        if not facts.init_path:
            raise Invalid("init=true needs a static init on this node: install the package tini or catatonit")
        if config.pid_mode:
            raise Invalid("init=true needs a pid namespace of its own: leave pid_mode empty")
        args = (INIT_TARGET, "--", *args)
    return oci.Process(
        terminal=config.tty,
        user=oci.User(umask=_DOCKERS_UMASK),
        args=args,
        env=environment(config),
        cwd=config.cwd,
        capabilities=oci.Capabilities(bounding=held, effective=held, permitted=held),
        rlimits=_rlimits(config, facts),
        no_new_privileges=config.no_new_privileges,
        oom_score_adj=config.oom_score_adj or None,
    )


def config_capabilities(config: ContainerConfig, facts: HostFacts) -> int:
    """The capabilities it holds, as bits; all that can be given if it is privileged."""
    add = ("ALL", *config.cap_add) if config.privileged else config.cap_add
    return defaults.capability_mask(add, config.cap_drop, grantable=facts.grantable)


def environment(config: ContainerConfig) -> tuple[str, ...]:
    """PATH, HOSTNAME and, on a terminal, TERM unless given; of entries with one name the last counts."""
    env = {"PATH": defaults.PATH}
    if config.hostname:
        env["HOSTNAME"] = config.hostname
    if config.tty:
        env["TERM"] = "xterm"
    for entry in config.env:
        name, _, value = entry.partition("=")
        env[name] = value
    return tuple(f"{name}={value}" for name, value in env.items())


def _rlimits(config: ContainerConfig, facts: HostFacts) -> tuple[oci.Rlimit, ...]:
    """No higher than this machine can give: a default of the node must not make a container impossible."""
    out = []
    for limit in config.ulimits:
        if limit.name not in RLIMITS:
            raise Invalid(f"ulimit {limit.name!r} does not exist; use one of {', '.join(RLIMITS)}")
        soft = UNLIMITED if limit.soft < 0 else limit.soft
        hard = UNLIMITED if limit.hard < 0 else limit.hard
        if soft > hard:
            raise Invalid(f"ulimit {limit.name}: soft limit {limit.soft} is above hard limit {limit.hard}")
        top = facts.hard_limits.get(limit.name, UNLIMITED)
        kind = f"RLIMIT_{limit.name.upper()}"
        out.append(oci.Rlimit(type=kind, soft=min(soft, top), hard=min(hard, top)))
    return tuple(out)


def _sysctls(config: ContainerConfig, own: set[oci.NamespaceType]) -> dict[str, str]:
    usual = dict(defaults.NET_SYSCTLS) if "network" in own else {}
    if "user" in own:  # it has not as many groups as that
        usual.pop("net.ipv4.ping_group_range", None)
    return {**usual, **config.sysctls}


def seccomp_of(config: ContainerConfig, facts: HostFacts) -> oci.Seccomp | None:
    """Its system call filter; None for none."""
    if config.seccomp == UNCONFINED or (config.privileged and not config.seccomp):
        return None
    held = defaults.capability_names(config_capabilities(config, facts))
    if config.seccomp:
        return from_docker(config.seccomp, held, facts.machine, facts.kernel)
    return profile(held, facts.machine)


def _annotations(config: ContainerConfig, layout: Layout, mounts: bundle_mounts.Mounts) -> dict[str, str]:
    return annotated(
        config.annotations,
        Extensions(
            overlay=Overlay(lower=config.lower_dirs, upper=layout.upper, work=layout.work),
            user=config.user,
            groups=config.groups,
            subpaths=mounts.subpaths,
            copy_up=mounts.copy_up,
        ),
    )
