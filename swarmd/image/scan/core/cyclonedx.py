"""An inventory as CycloneDX 1.5 (JSON).  Pure: equal inventories give equal bytes."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

import msgspec

from swarmd import __version__
from swarmd.image.scan.core.packages import Inventory, Package, purl


def write(inventory: Inventory, *, image: str, digest: str, at: float) -> bytes:
    """The document about ``image`` with that manifest ``digest``, as of ``at`` (seconds since 1970)."""
    stamp = datetime.datetime.fromtimestamp(int(at), datetime.UTC).isoformat().replace("+00:00", "Z")
    root = f"pkg:oci/{image.rpartition('/')[2].lower()}@{digest.replace(':', '%3A')}"
    components = [_component(one, inventory) for one in inventory.packages]
    if inventory.distribution.id:
        components.insert(0, _system(inventory))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{_uuid(digest)}",
        "version": 1,
        "metadata": {
            "timestamp": stamp,
            "tools": {"components": [{"type": "application", "name": "swarmd", "version": __version__}]},
            "component": {"type": "container", "bom-ref": root, "name": image, "version": digest},
        },
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [one["bom-ref"] for one in components]}],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _component(package: Package, inventory: Inventory) -> dict[str, Any]:
    url = purl(package, inventory.distribution)
    told = {
        "swarmd:source": package.source if package.source != package.name else "",
        "swarmd:source_version": package.source_version if package.source_version != package.version else "",
        "swarmd:path": package.path,
    }
    return {
        "type": "library",
        # One package may be there twice, in two environments of Python say.
        "bom-ref": f"{url}#{hashlib.sha256(package.path.encode()).hexdigest()[:12]}",
        "name": package.name,
        "version": package.version,
        "purl": url,
        "properties": [{"name": name, "value": value} for name, value in told.items() if value],
    }


def _system(inventory: Inventory) -> dict[str, Any]:
    about = inventory.distribution
    version = {"version": about.version} if about.version else {}
    return {"type": "operating-system", "bom-ref": f"os:{about.id}", "name": about.id, **version}


def _uuid(digest: str) -> str:
    """A name-based one: the same for the same image."""
    raw = bytearray(hashlib.sha256(f"cyclonedx {digest}".encode()).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
