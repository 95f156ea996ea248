# ruff: noqa: E501, SIM905
"""Made log systems with known templates, of formats unlike those the log board's development data has.

Each template is a format string whose ``{fields}`` vary; its truth is the string with ``<*>`` for each field.
Written before the miner was judged on them, and no rule of the miner names anything in them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

USERS = (
    "alice bob carol dave erin frank grace heidi ivan judy mallory niaj olivia peggy rupert sybil trent victor walter "
    "wendy root postgres deploy backup"
).split()
NAMES = "checkout catalog payment shipping search basket gateway billing ledger profile".split()
TABLES = "orders customers invoices line_items stock shipments refunds sessions".split()
NODES = "node-a7 node-b2 node-c9 ip-10-2-3-4 worker-17 worker-22 master-1".split()
PATHS = (
    "/var/lib/data /etc/app/main.conf /srv/www/index.html /tmp/upload-3f /opt/app/lib/core.so /home/x/.cache".split()
)
HOSTS = "db1.prod.example.com cache.internal mail.example.org web-4.eu.example.net auth.svc.cluster.local".split()
REASONS = "timeout refused reset unreachable".split()
CLASSES = (
    "com.acme.shop.OrderService com.acme.shop.StockClient com.acme.pay.CardGateway org.sample.http.Pool "
    "com.acme.web.FilterChain org.sample.sql.Driver"
).split()


def _value(field: str, r: random.Random) -> str:
    kinds: dict[str, Callable[[], str]] = {
        "int": lambda: str(r.randrange(10 ** r.randrange(1, 7))),
        "small": lambda: str(r.randrange(10)),
        "float": lambda: f"{r.random() * 100:.{r.randrange(1, 4)}f}",
        "ms": lambda: f"{r.randrange(1, 5000)}ms",
        "dur": lambda: r.choice([f"{r.random():.3f}s", f"{r.randrange(900)}.{r.randrange(1000)}ms", f"{r.randrange(90)}µs"]),
        "ip": lambda: ".".join(str(r.randrange(256)) for _ in range(4)),
        "ipport": lambda: ".".join(str(r.randrange(256)) for _ in range(4)) + f":{r.randrange(1024, 65536)}",
        "ip6": lambda: "fe80::" + ":".join(f"{r.randrange(65536):x}" for _ in range(4)),
        "mac": lambda: ":".join(f"{r.randrange(256):02x}" for _ in range(6)),
        "uuid": lambda: "-".join(f"{r.getrandbits(4 * n):0{n}x}" for n in (8, 4, 4, 4, 12)),
        "hex": lambda: f"0x{r.getrandbits(48):x}",
        "sha": lambda: f"{r.getrandbits(160):040x}",
        "id": lambda: f"{r.choice(['ord', 'cus', 'pay'])}_{r.getrandbits(50):x}1",
        "user": lambda: r.choice(USERS),
        "name": lambda: r.choice(NAMES),
        "table": lambda: r.choice(TABLES),
        "node": lambda: r.choice(NODES),
        "path": lambda: r.choice(PATHS) + r.choice(["", f"/{r.randrange(99)}", ".bak"]),
        "host": lambda: r.choice(HOSTS),
        "url": lambda: f"https://{r.choice(HOSTS)}/v{r.randrange(3)}/{r.choice(NAMES)}?id={r.randrange(999)}",
        "class": lambda: r.choice(CLASSES),
        "bool": lambda: r.choice(["true", "false"]),
        "pod": lambda: f"{r.choice(NAMES)}-{r.getrandbits(32):x}9-{r.choice('bcdfgh')}{r.randrange(1000)}z",
        "title": lambda: " ".join(r.choice(NAMES).title() for _ in range(r.randrange(1, 4))),
        "ints": lambda: ", ".join(str(r.randrange(999)) for _ in range(r.randrange(1, 6))),
        "email": lambda: f"{r.choice(USERS)}@{r.choice(HOSTS)}",
        "pct": lambda: f"{r.randrange(101)}%",
        "size": lambda: f"{r.randrange(1, 999)}{r.choice(['KB', 'MB', 'GB'])}",
        "date": lambda: f"2024-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}T{r.randrange(24):02d}:00:00Z",
        "line": lambda: str(r.randrange(20, 900)),
        "agent": lambda: r.choice(["curl/8.1.2", "Mozilla/5.0 (X11; Linux x86_64) Gecko/2010", "Go-http-client/1.1"]),
        "method": lambda: r.choice("GET POST PUT DELETE PATCH HEAD".split()),
    }  # fmt: skip
    return kinds[field]()


@dataclass(frozen=True)
class System:
    """One made system: header of a line by its number and source of chance, and its templates by weight."""

    name: str
    header: Callable[[int, random.Random], str]
    templates: tuple[tuple[int, str], ...]
    wrap: Callable[[str, str, random.Random], str] = lambda header, message, r: header + message

    def lines(self, count: int, seed: int) -> tuple[list[str], list[str], list[str]]:
        """(whole lines, messages, true templates)."""
        r = random.Random(f"{self.name}{seed}")
        weights = [w for w, _ in self.templates]
        whole, messages, truth = [], [], []
        for i in range(count):
            _, template = r.choices(self.templates, weights)[0]
            message = re.sub(r"\{(\w+?)\d?\}", lambda m: _value(m[1], r), template)
            header = self.header(i, r)
            whole.append(self.wrap(header, message, r))
            messages.append(message)
            truth.append(re.sub(r"\{\w+\}", "<*>", template))
        return whole, messages, truth


def _clock(i: int) -> str:
    return f"{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}"


def _json(header: str, message: str, r: random.Random) -> str:
    import json

    return json.dumps(
        {"ts": header, "level": r.choice(["info", "warn"]), "msg": message, "trace": f"{r.getrandbits(64):x}"}
    )


def _logfmt(header: str, message: str, r: random.Random) -> str:
    return f'time={header} level={r.choice(["info", "warning"])} msg="{message}" component={r.choice(NAMES)} took={r.random():.4f}'


SYSTEMS = (
    System(
        "json_orders",
        lambda i, r: f"2024-03-01T{_clock(i)}.{r.randrange(1000):03d}Z",
        (
            (30, "order {id} placed by customer {uuid}"),
            (20, "payment accepted for order {id}: {float} EUR"),
            (9, "payment declined for order {id}: insufficient funds"),
            (6, "payment declined for order {id}: card expired"),
            (9, "reserving {small} items in warehouse {name}"),
            (5, "stock level of {name} is below {int}"),
            (5, "retry {small} of {small} in {ms}"),
            (4, "cache miss for key basket:{uuid}"),
            (3, "feature flag {name} is {bool}"),
            (2, "circuit breaker opened for {name} after {int} failures"),
            (2, "circuit breaker closed for {name}"),
            (1, "shutting down gracefully"),
            (1, "listening on port {int}"),
            (1, "migrations applied: {ints}"),
        ),
        _json,
    ),
    System(
        "logfmt_proxy",
        lambda i, r: f"2024-05-02T{_clock(i)}Z",
        (
            (30, "forwarded {method} {path} to {ipport}"),
            (20, "upstream {host} answered {int} in {dur}"),
            (8, "upstream {host} did not answer within {dur}"),
            (8, "connection from {ipport} closed by peer"),
            (6, "TLS handshake error from {ipport}: EOF"),
            (4, "TLS handshake error from {ipport}: remote error: tls: bad certificate"),
            (5, "config reloaded from {path}"),
            (3, "rate limit of {int} requests per minute reached by {user}"),
            (2, "certificate for {host} expires in {int} days"),
            (2, "health check of {name} failed: connect: connection refused"),
            (2, "health check of {name} passed"),
            (1, "draining {int} connections"),
            (1, "starting server"),
        ),
        _logfmt,
    ),
    System(
        "syslog3164_mail",
        lambda i, r: f"Feb {1 + i % 28:2d} {_clock(i)} mx{r.randrange(1, 3)} "
        + r.choice([f"postfix/smtpd[{r.randrange(9999)}]: ", f"postfix/qmgr[{r.randrange(9999)}]: ", f"dovecot[{r.randrange(999)}]: "]),
        (
            (25, "connect from {host}[{ip}]"),
            (25, "disconnect from {host}[{ip}] ehlo={small} mail={small} rcpt={small} data={small} quit={small} commands={small}"),
            (15, "{sha}: from=<{email}>, size={int}, nrcpt={small} (queue active)"),
            (10, "{sha}: removed"),
            (10, "{sha}: to=<{email}>, relay={host}[{ip}]:25, delay={float}, dsn=2.0.0, status=sent (250 OK)"),
            (5, "imap-login: Login: user=<{user}>, method=PLAIN, rip={ip}, lip={ip}, mpid={int}, TLS"),
            (3, "imap-login: Disconnected (auth failed, {small} attempts in {int} secs): user=<{user}>, method=PLAIN, rip={ip}"),
            (3, "warning: hostname {host} does not resolve to address {ip}"),
            (2, "warning: {ip}: SASL LOGIN authentication failed: UGFzc3dvcmQ6"),
            (1, "statistics: max connection rate {small}/60s for (smtp:{ip}) at Feb {small} {int}"),
            (1, "daemon started -- version {float}, configuration {path}"),
        ),
    ),
    System(
        "syslog5424_firewall",
        lambda i, r: f"<{r.choice([134, 132, 131])}>1 2024-06-07T{_clock(i)}.{r.randrange(1000):03d}+02:00 fw-{r.randrange(1, 4)} filterd {r.randrange(100, 999)} ID{r.randrange(40, 49)} - ",
        (
            (40, "Deny tcp src outside:{ip}/{int} dst inside:{ip}/{int} by access-group outside_in"),
            (20, "Built inbound TCP connection {int} for outside:{ip}/{int} to inside:{ip}/{int}"),
            (20, "Teardown TCP connection {int} for outside:{ip}/{int} to inside:{ip}/{int} duration {int} bytes {int}"),
            (6, "User {user} logged in from {ip}"),
            (5, "User {user} logged out after {int} minutes"),
            (3, "Interface {name} changed state to up"),
            (3, "Interface {name} changed state to down"),
            (2, "ARP collision detected for {ip} from {mac}"),
            (1, "Configuration saved by {user}"),
            (1, "IPv6 neighbour {ip6} is stale"),
        ),
    ),
    System(
        "nginx",
        lambda i, r: f"2024/07/08 {_clock(i)} [{r.choice(['error', 'warn', 'notice'])}] {r.randrange(99)}#{r.randrange(99)}: *{r.randrange(99999)} ",
        (
            (30, 'open() "{path}" failed (2: No such file or directory), client: {ip}, server: {host}, request: "{method} {path} HTTP/1.1", host: "{host}"'),
            (20, 'upstream timed out (110: Connection timed out) while reading response header from upstream, client: {ip}, server: {host}, upstream: "{url}"'),
            (15, "connect() failed (111: Connection refused) while connecting to upstream, client: {ip}, server: {host}"),
            (10, "client {ip} closed keepalive connection"),
            (5, "a client request body is buffered to a temporary file {path}, client: {ip}, server: {host}"),
            (3, "signal process started"),
            (2, "worker process {int} exited with code {small}"),
            (2, "gracefully shutting down"),
            (1, "limiting requests, excess: {float} by zone \"{name}\", client: {ip}"),
        ),
    ),
    System(
        "java_spring",
        lambda i, r: f"2024-08-09 {_clock(i)}.{r.randrange(1000):03d}  {r.choice(['INFO', 'WARN', 'ERROR'])} {r.randrange(1, 99)} --- [nio-8080-exec-{r.randrange(1, 20)}] {r.choice(['c.a.shop.OrderController', 'c.a.shop.StockClient', 'o.s.w.s.DispatcherServlet'])} : ",
        (
            (25, "Completed {int} OK in {ms}"),
            (15, "Handling order {uuid} of user {user}"),
            (10, "Resolved [{class}: Request method not supported]"),
            (10, "HikariPool-{small} - Connection is not available, request timed out after {ms}."),
            (8, "HikariPool-{small} - Start completed."),
            (8, "Failed to send message to topic {name} partition {small}"),
            (6, "Consumer clientId={name}, groupId={name}: Revoke previously assigned partitions {name}-{small}"),
            (6, "Started Application in {float} seconds (JVM running for {float})"),
            (5, "Tomcat started on port(s): {int} (http) with context path ''"),
            (3, "Initializing Spring DispatcherServlet 'dispatcherServlet'"),
            (3, "java.lang.IllegalStateException: order {id} is already shipped"),
            (3, "No active profile set, falling back to default profiles: default"),
            (2, "Bean '{class}' of type [{class}] is not eligible for getting processed"),
        ),
    ),
    System(
        "klog_kubelet",
        lambda i, r: f"{r.choice('IWE')}0{1 + i % 9}{10 + i % 20} {_clock(i)}.{r.randrange(1000000):06d} {r.randrange(1, 9999):7d} {r.choice(['kubelet.go', 'pod_workers.go', 'reconciler.go', 'event.go'])}:{r.randrange(50, 2000)}] ",
        (
            (25, '"SyncLoop UPDATE" source="api" pods=["default/{pod}"]'),
            (15, '"SyncLoop (PLEG): event for pod" pod="default/{pod}" event={{"ID":"{uuid}","Type":"ContainerStarted"}}'.replace("{{", "[").replace("}}", "]")),
            (12, '"Error syncing pod, skipping" err="failed to pull image" pod="default/{pod}" podUID="{uuid}"'),
            (10, 'MountVolume.SetUp succeeded for volume "{name}" (UniqueName: "{path}") pod "{pod}"'),
            (8, "Container {sha} exited with code {small}"),
            (6, "Trying to delete pod {pod} (uid {uuid}) after grace period of {small} seconds"),
            (5, "eviction manager: attempting to reclaim memory"),
            (5, "eviction manager: must evict pod(s) to reclaim memory"),
            (3, "Node {node} status is now: NodeNotReady"),
            (3, "Node {node} status is now: NodeReady"),
            (2, "Using config file {path}"),
            (2, "Failed to list services: dial tcp {ipport}: connect: connection refused"),
            (1, "Starting kubelet main sync loop"),
        ),
    ),
    System(
        "postgresql",
        lambda i, r: f"2024-09-10 {_clock(i)}.{r.randrange(1000):03d} UTC [{r.randrange(100, 9999)}] {r.choice(['LOG', 'ERROR', 'WARNING', 'FATAL'])}:  ",
        (
            (20, "connection received: host={ip} port={int}"),
            (20, "connection authorized: user={user} database={name} application_name=psql"),
            (15, "duration: {float} ms  statement: SELECT * FROM {table} WHERE id = {int}"),
            (8, "checkpoint starting: time"),
            (8, "checkpoint complete: wrote {int} buffers ({float}%); 0 WAL file(s) added, {small} removed, {small} recycled; write={float} s, sync={float} s, total={float} s"),
            (7, 'relation "{table}" does not exist at character {int}'),
            (6, 'duplicate key value violates unique constraint "{table}_pkey"'),
            (5, 'password authentication failed for user "{user}"'),
            (4, "could not receive data from client: Connection reset by peer"),
            (3, "process {int} detected deadlock while waiting for ShareLock on transaction {int} after {float} ms"),
            (2, "automatic vacuum of table \"{name}.public.{table}\": index scans: {small}"),
            (1, "database system is ready to accept connections"),
            (1, "received fast shutdown request"),
            (1, "canceling statement due to statement timeout"),
        ),
    ),
    System(
        "windows_service",
        lambda i, r: f"{1 + i % 12}/{1 + i % 28}/2024 {1 + i % 12}:{i % 60:02d}:{i % 59:02d} {r.choice(['AM', 'PM'])} | {r.choice(['Information', 'Warning', 'Error'])} | {r.choice(['Service Control Manager', 'Windows Update Client', 'Security'])} | ",
        (
            (20, "The {title} service entered the running state."),
            (20, "The {title} service entered the stopped state."),
            (15, "An account was successfully logged on. Account Name: {user} Logon ID: {hex} Source Network Address: {ip}"),
            (10, "An account failed to log on. Account Name: {user} Failure Reason: Unknown user name or bad password."),
            (8, "Installation Successful: Windows successfully installed the following update: KB{int}"),
            (6, "The system uptime is {int} seconds."),
            (5, "The time provider NtpClient is currently receiving valid time data from {host}."),
            (4, "Volume {path} is low on space: {size} of {size} free"),
            (2, "The process {path} was terminated with exit code {hex}"),
            (1, "The Event log service was started."),
        ),
    ),
    System(
        "go_raft",
        lambda i, r: f"2024/10/11 {_clock(i)} ",
        (
            (20, "raft: node {hex} became follower at term {int}"),
            (10, "raft: node {hex} became candidate at term {int}"),
            (10, "raft: node {hex} became leader at term {int}"),
            (10, "raft: {hex} received vote from {hex} at term {int}"),
            (9, "store: applied snapshot at index {int} [term {int}, {size}]"),
            (8, "http: {method} {path} {int} {dur}"),
            (6, "peer {ipport} is {bool}"),
            (5, "compacted {int} entries, kept {int} ({pct})"),
            (4, "panic recovered in {class}: index out of range [{small}] with length {small}"),
            (3, "lease {hex} of {user} expired"),
            (2, "closing: {ints}"),
            (1, "ready to serve client requests"),
        ),
    ),
)  # fmt: skip
