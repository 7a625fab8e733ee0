"""Every metric there is, by who tells it.  docs/operations.md shows this table.

Names that begin with ``swarm_``, ``engine_daemon_`` and ``container_`` are those of Docker, SwarmKit and
cAdvisor, so that dashboards made for them work; what only swarmd has begins with ``swarmd_``.  No label has a
value for each client, path, or address, and managers have none for each service.
"""

from __future__ import annotations

from swarmd.telemetry.metrics import Metric

_PORT = ("service", "port", "protocol")
_CONTAINER = ("id", "name", "service", "image")

# -- about the daemon and its machine --------------------------------------------------------------------

ENGINE = Metric(
    "engine_daemon_engine_info", "gauge", "Always 1; its labels say what this engine is.",
    ("version", "architecture", "kernel", "os_type", "hostname"),
)  # fmt: skip
CPUS = Metric("engine_daemon_engine_cpus_cpus", "gauge", "CPUs the daemon may use.", unit="cpus")
MEMORY = Metric("engine_daemon_engine_memory_bytes", "gauge", "Memory of the machine.", unit="bytes")
STATES = Metric(
    "engine_daemon_container_states_containers", "gauge",
    "Containers of this node, of tasks and single ones: running, paused, stopped.", ("state",), "containers",
)  # fmt: skip
DISK_SIZE = Metric("swarmd_data_dir_size_bytes", "gauge", "File system that holds data_dir.", unit="bytes")
DISK_FREE = Metric("swarmd_data_dir_free_bytes", "gauge", "What of it the daemon can use.", unit="bytes")
IMAGES = Metric("swarmd_images", "gauge", "Images of this node.")
BLOBS = Metric("swarmd_image_blobs", "gauge", "Blobs of its image store: layers, configurations, manifests.")
BLOB_BYTES = Metric("swarmd_image_blobs_bytes", "gauge", "What these take on the disk.", unit="bytes")
CALLS = Metric(
    "swarmd_calls_total", "counter",
    "Calls that this daemon carried out or refused, on its socket and its node port, by how they ended.",
    ("call", "outcome"),
)  # fmt: skip
ERRORS = Metric(
    "swarmd_scrape_errors_total", "counter", "Times a part of this page could not be read.", ("part",)
)
COST = Metric(
    "swarmd_scrape_duration_seconds", "gauge", "How long it took to read each part.", ("part",), "seconds"
)

# -- about a node's part in the swarm --------------------------------------------------------------------

NODE = Metric(
    "swarm_node_info", "gauge", "Always 1; its labels say which node of which swarm this is.",
    ("swarm_id", "node_id"),
)  # fmt: skip
IS_MANAGER = Metric("swarm_node_manager", "gauge", "1 on managers, 0 on workers.")
CONNECTED = Metric("swarmd_node_connected", "gauge", "1 while the node has a session with the leader.")
TASKS_HERE = Metric("swarmd_node_tasks", "gauge", "Tasks of this node by state.", ("state",))
STOPPING = Metric(
    "swarmd_node_tasks_stopping", "gauge", "Tasks that run and are to end: draining, or told to stop."
)
REACHED = Metric(
    "swarmd_node_task_transitions_total", "counter",
    "Tasks of this node that came into a state: running ones were started, failed and rejected ones were not "
    "well.", ("state",),
)  # fmt: skip
CHECKS = Metric(
    "engine_daemon_health_checks_total", "counter", "Probes of tasks: health checks, readiness and liveness."
)
CHECKS_FAILED = Metric("engine_daemon_health_checks_failed_total", "counter", "Those of them that failed.")
GOSSIP = Metric("swarmd_gossip_members", "gauge", "Nodes as gossip sees them from here.", ("state",))
CERTIFICATE = Metric(
    "swarmd_node_certificate_expiry_timestamp_seconds", "gauge", "When this node's certificate ends.",
    unit="seconds",
)  # fmt: skip

# -- about a node's network ------------------------------------------------------------------------------

PORTS = Metric(
    "swarmd_port_connections_total", "counter",
    "Connections (of UDP: flows) that came to a published port of this node, whether it served or refused "
    "them: passed on by the kernel, or by the user-space proxy.", (*_PORT, "host_ip", "path"),
)  # fmt: skip
PROXIED = Metric("swarmd_proxy_open", "gauge", "Connections and flows that the user-space proxy has open.")
RESETS = Metric(
    "swarmd_proxy_resets_total", "counter", "Its connections that were reset: their node was lost."
)
HTTP_CLIENTS = Metric("swarmd_http_clients", "gauge", "Clients connected to ports that services share.")
HTTP_REQUESTS = Metric(
    "swarmd_http_requests_total", "counter",
    "Requests on shared ports by class of their status; cut: the client or the task went before there was "
    "one. No service: none has that host name and path.", ("service", "port", "code"),
)  # fmt: skip
HTTP_BYTES = Metric(
    "swarmd_http_response_bytes_total", "counter", "Bodies of the answers to these.", ("service", "port"),
    "bytes",
)  # fmt: skip
HTTP_SECONDS = Metric(
    "swarmd_http_request_duration_seconds", "histogram", "From a request to the end of its answer.",
    ("service", "port"), "seconds",
)  # fmt: skip
SNAPSHOT = Metric("swarmd_network_snapshot_version", "gauge", "Version of the newest network state heard.")
APPLIED = Metric("swarmd_network_applied", "gauge", "1 when the kernel has been given all of it.")
PROBLEMS = Metric("swarmd_network_problems", "gauge", "What does not work now; swarmctl info says it.")
ATTACHED = Metric("swarmd_network_containers", "gauge", "Containers with an address of the swarm.")
MENDED = Metric(
    "swarmd_network_mended_total", "counter", "Differences others made in the kernel that were mended."
)
MOVED = Metric(
    "swarmd_network_udp_flows_moved_total", "counter",
    "UDP flows that were ended because their task left, so that clients come to another one.",
)  # fmt: skip
LOOKUPS = Metric(
    "swarmd_dns_forwarded_total", "counter",
    "Names of elsewhere that containers asked for: answered, failed, or refused, being too many at once.",
    ("outcome",),
)  # fmt: skip
CONNTRACK = Metric("swarmd_conntrack_entries", "gauge", "Flows the kernel tracks.")
CONNTRACK_LIMIT = Metric("swarmd_conntrack_entries_limit", "gauge", "How many of them it can.")

# -- about containers ------------------------------------------------------------------------------------

CPU = Metric(
    "container_cpu_usage_seconds_total", "counter", "CPU time of a container.", _CONTAINER, "seconds"
)
THROTTLED = Metric(
    "container_cpu_cfs_throttled_seconds_total", "counter", "For how long its quota kept it waiting.",
    _CONTAINER, "seconds",
)  # fmt: skip
RESIDENT = Metric(
    "container_memory_usage_bytes", "gauge", "Memory of a container, page cache and all.", _CONTAINER, "bytes"
)
WORKING_SET = Metric(
    "container_memory_working_set_bytes", "gauge", "What of it could not be dropped at once.", _CONTAINER,
    "bytes",
)  # fmt: skip
MEMORY_LIMIT = Metric(
    "container_spec_memory_limit_bytes", "gauge", "How much it may have; 0: no limit.", _CONTAINER, "bytes"
)
PROCESSES = Metric("container_threads", "gauge", "Its processes and threads.", _CONTAINER)
RECEIVED = Metric(
    "container_network_receive_bytes_total", "counter", "What came in by its interfaces.", _CONTAINER, "bytes"
)
SENT = Metric(
    "container_network_transmit_bytes_total", "counter", "What went out by them.", _CONTAINER, "bytes"
)
READ = Metric(
    "container_fs_reads_bytes_total", "counter", "What it read from block devices.", _CONTAINER, "bytes"
)
WRITTEN = Metric("container_fs_writes_bytes_total", "counter", "What it wrote to them.", _CONTAINER, "bytes")
STARTED = Metric(
    "container_start_time_seconds", "gauge", "When it was started, since 1970.", _CONTAINER, "seconds"
)

# -- of managers -----------------------------------------------------------------------------------------

LEADS = Metric("swarm_manager_leader", "gauge", "1 on the manager that leads, 0 on the others.")
TERM = Metric("swarmd_raft_term", "gauge", "Raft's term, which begins anew with each epoch.")
EPOCH = Metric("swarmd_raft_epoch", "gauge", "The epoch: one for each compaction or change of members.")
INDEX = Metric("swarmd_raft_applied", "gauge", "Changes of the swarm that this manager has applied.")
MEMBERS = Metric("swarmd_raft_members", "gauge", "Managers of the group.")
REACHABLE = Metric("swarmd_raft_members_reachable", "gauge", "Those this one has heard of lately, or is.")
QUORUM = Metric("swarmd_raft_has_leader", "gauge", "1 while this manager knows of a leader.")
AGE = Metric(
    "swarmd_raft_age_seconds", "gauge", "How old the newest agreement known here may be.", unit="seconds"
)
LEADERS = Metric(
    "swarmd_raft_leader_changes_total", "counter", "Leaders seen by this manager, after its first."
)
LOG = Metric("swarmd_raft_log_bytes", "gauge", "Size of the open epoch's log.", unit="bytes")
PROPOSING = Metric(
    "swarm_raft_transaction_latency_seconds", "histogram",
    "From a change that this leader proposes to its being applied, or refused.", unit="seconds",
)  # fmt: skip
SYNCING = Metric(
    "swarmd_raft_fsync_duration_seconds", "histogram", "How long the disk took for a sync of Raft's files.",
    unit="seconds",
)  # fmt: skip

# -- of the leader, about the swarm ----------------------------------------------------------------------

NODES = Metric("swarm_manager_nodes", "gauge", "Nodes of the swarm by state.", ("state",))
SERVICES = Metric("swarm_manager_services_total", "gauge", "Services of the swarm.")
SHORT = Metric(
    "swarmd_manager_services_short", "gauge", "Services with fewer running tasks than they are to have."
)
UPDATING = Metric(
    "swarmd_manager_services_updating", "gauge", "Services by the state of their last update.", ("state",)
)
TASKS = Metric("swarm_manager_tasks_total", "gauge", "Tasks of the swarm by state.", ("state",))
NETWORKS = Metric("swarm_manager_networks_total", "gauge", "Networks of the swarm.")
SECRETS = Metric("swarm_manager_secrets_total", "gauge", "Secrets of the swarm.")
STARTS = Metric(
    "swarm_dispatcher_scheduling_delay_seconds", "histogram",
    "From a task's making to its running, since this leader's term began.", unit="seconds",
)  # fmt: skip
SESSIONS = Metric("swarmd_dispatcher_sessions", "gauge", "Nodes that have a session with this leader.")

PARTS: tuple[tuple[str, tuple[Metric, ...]], ...] = (
    (
        "every daemon",
        (ENGINE, CPUS, MEMORY, STATES, DISK_SIZE, DISK_FREE, IMAGES, BLOBS, BLOB_BYTES, CALLS, ERRORS, COST),
    ),
    (
        "nodes of a swarm",
        (
            NODE, IS_MANAGER, CONNECTED, TASKS_HERE, STOPPING, REACHED, CHECKS, CHECKS_FAILED, GOSSIP,
            CERTIFICATE,
        ),
    ),
    (
        "nodes: network",
        (
            PORTS, PROXIED, RESETS, HTTP_CLIENTS, HTTP_REQUESTS, HTTP_BYTES, HTTP_SECONDS, SNAPSHOT, APPLIED,
            PROBLEMS, ATTACHED, MENDED, MOVED, LOOKUPS, CONNTRACK, CONNTRACK_LIMIT,
        ),
    ),
    (
        "running containers",
        (
            CPU, THROTTLED, RESIDENT, WORKING_SET, MEMORY_LIMIT, PROCESSES, RECEIVED, SENT, READ, WRITTEN,
            STARTED,
        ),
    ),
    (
        "managers",
        (
            LEADS, TERM, EPOCH, INDEX, MEMBERS, REACHABLE, QUORUM, AGE, LEADERS, LOG, PROPOSING, SYNCING,
        ),
    ),
    ("the leader", (NODES, SERVICES, SHORT, UPDATING, TASKS, NETWORKS, SECRETS, SESSIONS, STARTS)),
)  # fmt: skip
"""Who tells which."""
