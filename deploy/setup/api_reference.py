"""Writes who may make which call, as declared in proto/, into docs/api.md; ``--check`` only compares."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path

from google.protobuf.descriptor import MethodDescriptor

import swarmd.rpc.v1
from swarmd.rpc import audience

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BEGIN, END = "<!-- Generated from here on: make docs -->\n", "<!-- Generated up to here -->\n"
WORDS = {
    audience.LOCAL: ("who may open the socket", "not served"),
    audience.USERS: ("who may open the socket", "managers, which pass it on for their users"),
    audience.MANAGERS: ("not served", "managers"),
    audience.MEMBERS: ("not served", "every node of the swarm"),
    audience.NOBODY: ("nobody", "nobody"),
}
"""On the unix socket, on the node port."""


def methods() -> dict[str, MethodDescriptor]:
    """Every call of every proto file, by what gRPC calls it ("/package.Service/Method")."""
    found = {}
    for module in pkgutil.iter_modules(swarmd.rpc.v1.__path__):
        if module.name.endswith("_pb2"):
            file = importlib.import_module(f"swarmd.rpc.v1.{module.name}").DESCRIPTOR
            for service in file.services_by_name.values():
                found.update({f"/{service.full_name}/{one.name}": one for one in service.methods})
    return found


def table() -> str:
    """Each service's calls by audience, as Markdown."""
    rows: dict[tuple[str, int], list[str]] = {}
    for method in methods().values():
        service = method.containing_service.name
        rows.setdefault((service, audience.declared(method)), []).append(f"`{method.name}`")
    lines = ["| service | calls | on the unix socket | on the node port |", "|---|---|---|---|"]
    for (service, who), names in rows.items():
        lines.append(f"| `{service}` | {', '.join(names)} | {' | '.join(WORDS[who])} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """0 when the page is as it should be, 1 when ``--check`` found it stale."""
    page = PAGE.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.stderr.write(f"{PAGE} lacks the lines {BEGIN.strip()!r} and {END.strip()!r} around the table.\n")
        return 1
    wanted = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if wanted == page:
        return 0
    if "--check" in sys.argv[1:]:
        sys.stderr.write(f'{PAGE.name} does not say who may make which call: run "make docs".\n')
        return 1
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
