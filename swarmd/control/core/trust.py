"""What a trust rule may be, and the rows that hold an image's signatures.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from swarmd.control.core import validate
from swarmd.image.core.manifest import MANIFEST, sha256
from swarmd.image.trust.core import artifact, patterns
from swarmd.image.trust.core.policy import LEVELS
from swarmd.model.errors import Invalid, NotFound
from swarmd.model.image_ref import ImageRef
from swarmd.model.registry import RegistryManifest, RegistryTag, TrustRule
from swarmd.model.replace import replace
from swarmd.store.core.transaction import Change, Delete, Put

_ACTIONS = ("accept", "reject", "require")


def is_own(ref: ImageRef, domains: Collection[str]) -> bool:
    """Whether a name is one of the swarm's own registry."""
    return ref.name.partition("/")[0] in domains


def repository_of(ref: ImageRef, domains: Collection[str]) -> str:
    """The repository of the swarm's registry that is about an image: names of others keep their domain.

    A repository's name has no colon, and a domain no underscore.
    """
    return ref.name.partition("/")[2] if is_own(ref, domains) else ref.name.replace(":", "_")


def checked(rule: TrustRule, known: Collection[str]) -> TrustRule:
    """The rule as it is stored.  ``known``: names of keys.  Raises Invalid, NotFound for a key."""
    pattern = patterns.complete(rule.id)
    if rule.action not in _ACTIONS:
        raise Invalid(f'unknown action "{rule.action}": use {", ".join(_ACTIONS)}')
    if rule.action != "require":
        return TrustRule(id=pattern, action=rule.action)
    keys = tuple(dict.fromkeys(rule.keys))
    unknown = [name for name in keys if name not in known]
    if unknown:
        raise NotFound(f"No such trust key: {', '.join(unknown)}; add it first (trust key add)")
    if keys and not 1 <= rule.threshold <= len(keys):
        raise Invalid(f"threshold must be 1 to {len(keys)}, as many as there are keys, not {rule.threshold}")
    if rule.max_severity and rule.max_severity not in LEVELS:
        raise Invalid(f'unknown severity "{rule.max_severity}": use {", ".join(LEVELS)}')
    validate.seconds("max-scan-age", rule.max_scan_age)
    if not (keys or rule.max_severity or rule.max_scan_age):
        raise Invalid("a rule that requires nothing: name keys, --max-severity or --max-scan-age")
    return replace(rule, id=pattern, keys=keys, threshold=rule.threshold if keys else 1)


def signature_rows(
    repository: str,
    subject: str,
    written: artifact.Written,
    *,
    tagged: RegistryTag | None,
    held: Mapping[str, RegistryManifest],
    now: float,
) -> list[Change]:
    """The manifest of all signatures, and the tag that names it, in place of the list that it continues.

    ``tagged``: the tag as it is; ``held``: manifests about the image by digest.
    """
    tag = artifact.tag_of(subject)
    before = held.get(written.digest)
    manifest = RegistryManifest(
        id=f"{repository}@{written.digest}",
        version=before.version if before else 0,
        created_at=before.created_at if before else 0.0,
        repository=repository,
        digest=written.digest,
        media_type=MANIFEST,
        data=written.data,
        blobs=tuple(sha256(blob) for blob in written.blobs),
        subject=subject,
        artifact_type=artifact.ARTIFACT,
        tagged_at=now,
    )
    changes: list[Change] = [Put(manifest)]
    if tagged is None:
        row = RegistryTag(id=f"{repository}:{tag}", repository=repository, tag=tag, digest=written.digest)
        return [*changes, Put(row)]
    if tagged.digest != written.digest:
        changes.append(Put(replace(tagged, digest=written.digest)))
        old = held.get(tagged.digest)
        if old is not None:
            changes.append(Delete(RegistryManifest, old.id, old.version))
    return changes
