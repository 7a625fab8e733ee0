"""Tar streams out of and into a directory tree that somebody hostile may change meanwhile."""
