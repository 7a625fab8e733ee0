"""Decisions about which container is meant."""
