"""Single containers of this node: of nobody's service, kept over restarts of the daemon."""
