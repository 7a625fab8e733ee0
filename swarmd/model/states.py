"""The states things are in.  A task only ever moves to a larger state."""

from __future__ import annotations

import enum


class TaskState(enum.IntEnum):
    """Where a task is, or should be.  The gaps are Swarm's own: room for states to come."""

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832

    @property
    def is_terminal(self) -> bool:
        """Nothing of the task runs any more."""
        return self > TaskState.RUNNING


class NodeState(enum.StrEnum):
    """What the managers believe of a node."""

    UNKNOWN = "unknown"
    DOWN = "down"
    READY = "ready"
    DISCONNECTED = "disconnected"


class Availability(enum.StrEnum):
    """What a user allows a node to do."""

    ACTIVE = "active"
    PAUSE = "pause"
    DRAIN = "drain"


class Role(enum.StrEnum):
    """What a node's certificate says it is."""

    WORKER = "worker"
    MANAGER = "manager"


class UpdateState(enum.StrEnum):
    """Where a rolling update or rollback stands."""

    UPDATING = "updating"
    PAUSED = "paused"
    COMPLETED = "completed"
    ROLLBACK_STARTED = "rollback_started"
    ROLLBACK_PAUSED = "rollback_paused"
    ROLLBACK_COMPLETED = "rollback_completed"


class RotationPhase(enum.StrEnum):
    """How far a swarm is on the way to another root certificate."""

    TRUST = "trust"
    ISSUE = "issue"
