"""The key to a manager's state for those who only look at it: beside it, or given by the operator."""

from __future__ import annotations

from pathlib import Path

from swarmd.daemon.tools.backups import first_line
from swarmd.model.errors import Invalid, Refused
from swarmd.security import keyring
from swarmd.security.keyring import parse_unlock_key
from swarmd.security.sealing import PLAIN, CannotOpen, Sealer
from swarmd.security.vault import Vault

LOCKED = (
    "{data} is locked: give a file with the unlock key, --unlock-key-file FILE. "
    "Another manager shows the key: `swarmctl swarm unlock-key`."
)


def open_vault(data: Path, unlock_key_file: Path | None) -> Sealer:
    """What opens the pieces in ``data``; nothing is written.

    Raises Refused when the operator holds the key and gave none, Invalid for a wrong one or a damaged vault.
    """
    vault = Vault(data / "vault")
    if not vault.exists:
        return PLAIN  # of a release that sealed nothing, or a copy without its keys: reading will tell
    unlock(vault, data, unlock_key_file)
    return vault


def unlock(vault: Vault, data: Path, unlock_key_file: Path | None) -> None:
    """Open ``vault``, which exists.  Raises as :func:`open_vault`."""
    try:
        by_operator = keyring.wrapped_by((data / "vault" / "keys").read_bytes()).by_operator
    except (CannotOpen, OSError) as error:
        raise Invalid(f"{data / 'vault' / 'keys'} cannot be read: {error}") from error
    if not by_operator:
        vault.open_here()
    elif unlock_key_file is None:
        raise Refused(LOCKED.format(data=data))
    else:
        vault.unlock(parse_unlock_key(first_line(unlock_key_file, "unlock key").decode()))
