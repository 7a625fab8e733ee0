"""The console entry point: a short start and a short end, for most commands are over in a moment.

What takes time here is not what a command does but what Python does for it: modules that libraries load and
we never use, looking for garbage while all is new, and taking everything down again one by one.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_GARBAGE = 50_000
_OF_IMPORT = ("__file__", "__cached__", "__path__")
"""What the import system asks of a module before it is one."""

Instead = Mapping[str, Callable[..., Any]]
"""What stands for parts of a module while it is not loaded."""


class Later:
    """Finds ``modules`` so that they are loaded when something of them is used, not when imported."""

    def __init__(self, modules: Mapping[str, Instead]) -> None:
        self._modules = modules

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        instead = self._modules.get(name)
        spec = PathFinder.find_spec(name, path, target) if instead is not None else None
        if instead is not None and spec is not None and spec.loader is not None:
            late: Any = _LateLoader(spec.loader, instead)
            spec.loader = late
        return spec


class _LateLoader:
    """In the place of ``loader`` until the module is needed.

    importlib.util.LazyLoader would do, were it not for Python before 3.12: there, a second import of the
    module loads it.
    """

    def __init__(self, loader: Any, instead: Instead) -> None:
        self.loader = loader
        self._instead = instead

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Late(spec.name)
        vars(module).update(self._instead)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Not yet."""


class _Late(ModuleType):
    """Has next to no attributes, so Python asks ``__getattr__``."""

    def __getattr__(self, name: str) -> Any:
        if name not in _OF_IMPORT:
            _load(self)
        return ModuleType.__getattribute__(self, name)


_LOADING = threading.RLock()


def _load(module: ModuleType) -> None:
    """Now, by the first who asks; what loading asks of the module itself is not there yet."""
    with _LOADING:
        if isinstance(module.__loader__, _LateLoader):
            loader = module.__loader__ = module.__loader__.loader
            if module.__spec__ is not None:
                module.__spec__.loader = loader
            loader.exec_module(module)
            module.__class__ = ModuleType


def _cleandoc(text: str) -> str:
    """Of ``inspect``: click has the help of each option go through it."""
    if text.isprintable():  # a single line
        return text.lstrip()
    inspect = sys.modules["inspect"]
    _load(inspect)
    return str(inspect.cleandoc(text))


def _untranslated(text: str) -> str:
    """Of ``gettext``: swarmctl speaks English, and has no catalogues that click would find."""
    return text


def _untranslated_number(one: str, several: str, number: int) -> str:
    return one if number == 1 else several


class _Silent:
    """A logger for those who only log what nobody reads."""

    def debug(self, *_: object) -> None:
        """Nobody reads it."""


def _silent(name: str) -> _Silent:
    """Of ``logging``: hpack makes loggers, for debugging."""
    return _Silent()


def _system() -> str:
    """Of ``platform``: uuid, which click has a type for, asks for it."""
    return os.uname().sysname


_RARELY_NEEDED: Mapping[str, Instead] = {
    "calendar": {},  # protobuf's timestamps
    "gettext": {"gettext": _untranslated, "ngettext": _untranslated_number},  # click
    "google.protobuf.internal.python_message": {},  # messages where protobuf has no C library
    "inspect": {"cleandoc": _cleandoc},  # click's prompts, dataclasses without a docstring
    "ipaddress": {},  # urllib.parse: addresses in brackets
    "logging": {"getLogger": _silent},
    "platform": {"system": _system},
    "selectors": {},  # socket: sendfile
}
"""Modules that libraries import at their top and that few commands need, with what for."""


def main() -> None:
    """Run this process's command line, and end the process."""
    gc.set_threshold(_GARBAGE)
    sys.meta_path.insert(0, Later(_RARELY_NEEDED))
    from swarmd.cli.main import run
    from swarmd.rpc import wakeup

    wakeup.begin()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)  # the kernel takes back in a moment what Python would take apart in ten


if __name__ == "__main__":
    main()
