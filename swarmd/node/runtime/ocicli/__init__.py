"""``swarmd-runtime``: the container runtime as a command with the interface of crun and runc."""
