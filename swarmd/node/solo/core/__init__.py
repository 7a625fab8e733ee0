"""Decisions about single containers."""
