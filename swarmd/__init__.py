"""swarmd: a swarm orchestrator.  Read ``docs/architecture.md`` for the way of one service."""

__version__ = "0.1.0"
