"""What a caller and a manager say to each other about answers that may be old, in the metadata of a call."""

from __future__ import annotations

READ_KEY, STALE = "swarmd-read", "stale"
"""With the call: what this manager holds is good enough."""

AGE_KEY = "swarmd-age"
"""Behind the answer: seconds; left out by one that has heard of no leader since it started."""

LEADER_KEY = "swarmd-leader"
"""Behind the answer: the id of the leader, empty when this manager knows of none."""
