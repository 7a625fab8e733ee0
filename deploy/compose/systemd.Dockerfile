# A machine with systemd and swarmd's unit, as a container: deploy/compose/unit.sh tries the unit in it.
FROM swarmd:test
RUN apt-get update \
 && apt-get install -y --no-install-recommends systemd systemd-sysv procps \
 && rm -rf /var/lib/apt/lists/*
COPY swarmd.service /etc/systemd/system/
COPY swarmd.toml /etc/swarmd/
RUN systemctl enable swarmd
ENV container=docker
STOPSIGNAL SIGRTMIN+3
# Cgroups and sysctls are made writable as deploy/entrypoint.sh does it.
ENTRYPOINT ["bash", "-c", "awk '$5 ~ \"^(/proc/sys$|/sys/fs/cgroup)\" { print $5 }' /proc/self/mountinfo | xargs -n 1 mount -o remount,bind,rw && exec /sbin/init"]
