"""Runs the hooks that are the host's affair: programs that get the container's state on standard input."""

from __future__ import annotations

from swarmd.model.errors import Unavailable
from swarmd.node.runtime.core.oci import Hook

_TEXT = 4096


def run(kind: str, hooks: tuple[Hook, ...], state: bytes, cwd: str | None = None) -> None:
    """In order, each to its end; :class:`Unavailable` for the first that fails or takes too long."""
    import subprocess  # few containers have hooks, and the command is to start fast

    for hook in hooks:
        env = dict(entry.partition("=")[::2] for entry in hook.env)
        try:
            done = subprocess.run(
                list(hook.args) or [hook.path],
                executable=hook.path,
                env=env,
                cwd=cwd,
                input=state,
                stderr=subprocess.PIPE,
                timeout=hook.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{kind} hook {hook.path} took longer than {hook.timeout} s") from None
        except OSError as error:
            raise Unavailable(f"{kind} hook {hook.path} cannot be executed: {error.strerror}") from error
        if done.returncode:
            said = done.stderr[-_TEXT:].decode(errors="replace").strip()
            raise Unavailable(
                f"{kind} hook {hook.path} failed with {done.returncode}{': ' if said else ''}{said}"
            )
