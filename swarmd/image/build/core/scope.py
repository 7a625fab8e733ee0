"""Which variables an instruction sees: build arguments, their defaults, and the image's environment.  Pure.

--build-arg  >  default  >  ARG before the first FROM        ENV hides an ARG of its name, wherever it stands
"""

from __future__ import annotations

from collections.abc import Mapping

from swarmd.image.build.core.meaning import Arg
from swarmd.image.build.core.options import Options
from swarmd.image.build.core.platform import normal_platform
from swarmd.image.build.core.words import expand

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = tuple(
    name
    for kind in ("http", "https", "ftp", "no", "all")
    for name in (f"{kind}_proxy".upper(), f"{kind}_proxy")
)
"""Build arguments that need no ARG: they reach the commands and leave no trace in the image."""


def platform_args(options: Options) -> dict[str, str]:
    """The arguments that are there before the first line, with their values.  Raises Invalid."""
    args: dict[str, str] = {}
    target = normal_platform(options.platform)
    here = normal_platform(options.build_platform) if options.build_platform else target
    for prefix, platform in (("BUILD", here), ("TARGET", target)):
        system, _, rest = platform.partition("/")
        architecture, _, variant = rest.partition("/")
        args[f"{prefix}PLATFORM"] = platform
        args[f"{prefix}OS"] = system
        args[f"{prefix}ARCH"] = architecture
        args[f"{prefix}VARIANT"] = variant
    args["TARGETSTAGE"] = options.target or "default"
    return args


def add_globals(seen: dict[str, str], arg: Arg, given: Mapping[str, str], escape: str) -> None:
    """An ARG before the first FROM."""
    for name, default in arg.pairs:
        if name in given:
            seen[name] = given[name]
        elif default is not None:
            seen[name] = expand(default, seen, escape=escape).text


def proxies(given: Mapping[str, str], declared: Mapping[str, object]) -> tuple[str, ...]:
    """The predefined arguments that were given and not declared, as ``NAME=value``."""
    return tuple(f"{name}={given[name]}" for name in PROXIES if name in given and name not in declared)


def as_mapping(env: tuple[str, ...]) -> dict[str, str]:
    """``NAME=value`` lines as a mapping; the last of a name counts."""
    return {name: value for name, _, value in (line.partition("=") for line in env)}


def with_env(env: tuple[str, ...], name: str, value: str) -> tuple[str, ...]:
    """The lines with that variable set: in its place, or at the end."""
    at = next((at for at, line in enumerate(env) if line.partition("=")[0] == name), len(env))
    return (*env[:at], f"{name}={value}", *env[at + 1 :])
