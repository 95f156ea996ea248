"""Pods, events, replica sets and log text of the Kubernetes API as rows. Whatever has another form is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from aiops.core.series import labels_of
from aiops.core.signals import ChangeEvent, LogRecord
from aiops.core.untrusted import Untrusted

Object = Mapping[str, Any]
REVISION = "deployment.kubernetes.io/revision"
STATES = {
    "crash_looping": ("CrashLoopBackOff",),
    "oom_killed": ("OOMKilled",),
    "failed": ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError",
               "CreateContainerError", "RunContainerError"),
}  # fmt: skip
"""Reasons, present or of the last end, that a container's state is known by."""
_TIMES = (("eventTime",), ("series", "lastObservedTime"), ("lastTimestamp",), ("firstTimestamp",),
          ("metadata", "creationTimestamp"))  # fmt: skip


def at(item: Any, *keys: str) -> Any:
    """What lies under the keys; ``None`` where there is nothing."""
    for key in keys:
        item = item.get(key) if isinstance(item, Mapping) else None
    return item


def text(item: Any, *keys: str) -> str:
    found = at(item, *keys)
    return found if isinstance(found, str) else str(found) if isinstance(found, int) else ""


def number(item: Any, *keys: str) -> int:
    found = at(item, *keys)
    return found if isinstance(found, int) else 0


def objects(item: Any, *keys: str) -> list[Object]:
    found = at(item, *keys)
    return [o for o in found if isinstance(o, Mapping)] if isinstance(found, list) else []


def time_ms(value: str) -> int:
    """RFC 3339 as ms UTC; 0 for anything else."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return 0
    return max(0, int(moment.timestamp() * 1000)) if moment.tzinfo is not None else 0


def namespace(item: Object) -> str:
    return text(item, "metadata", "namespace")


def name(item: Object) -> str:
    return text(item, "metadata", "name")


# ------------------------------------------------------------------ pods


def statuses(pod: Object) -> list[Object]:
    return objects(pod, "status", "initContainerStatuses") + objects(pod, "status", "containerStatuses")


def restarts(pod: Object) -> int:
    return sum(number(s, "restartCount") for s in statuses(pod))


def ended(status: Object) -> Object:
    """The last end of a container; empty where it never ended."""
    for state in ("lastState", "state"):
        if isinstance(found := at(status, state, "terminated"), Mapping):
            return found
    return {}


def is_ready(pod: Object) -> bool:
    own = objects(pod, "status", "containerStatuses")
    return bool(own) and all(at(s, "ready") is True for s in own)


def in_state(pod: Object, state: str) -> bool:
    """Whether a pod is ``crash_looping``, ``pending``, ``oom_killed``, ``failed``, ``not_ready``, ``restarted``."""
    phase = text(pod, "status", "phase")
    if state in ("not_ready", "restarted"):
        return restarts(pod) > 0 if state == "restarted" else phase != "Succeeded" and not is_ready(pod)
    if state == "pending":
        return phase == "Pending"
    reasons = {text(s, "state", "waiting", "reason") for s in statuses(pod)}
    reasons |= {text(end, "reason") for s in statuses(pod) if (end := ended(s))} if state == "oom_killed" else set()
    return bool(reasons & set(STATES[state])) or (state == "failed" and phase == "Failed")


def trouble(pod: Object) -> tuple[bool, bool, int, str]:
    """Sorts pods in trouble to the front."""
    waits = any(text(s, "state", "waiting", "reason") not in ("", "ContainerCreating") for s in statuses(pod))
    return (not waits, not in_state(pod, "not_ready"), -restarts(pod), name(pod))


def pod_row(pod: Object) -> LogRecord:
    """How a pod is now, at the time of its last end, or else of its start."""
    own = objects(pod, "status", "containerStatuses")
    said = [
        text(pod, "status", "phase") or "phase unknown",
        f"{sum(at(s, 'ready') is True for s in own)} of {len(own)} containers ready",
        f"restarts {restarts(pod)}",
    ]
    why = text(pod, "status", "reason"), text(pod, "status", "message")
    said += [" ".join(w for w in why if w)] if any(why) else []
    for condition in objects(pod, "status", "conditions"):
        if text(condition, "type") == "PodScheduled" and text(condition, "status") == "False":
            said.append(f"not scheduled: {text(condition, 'message')}")
    moment, last = 0, ""
    for status in statuses(pod):
        if reason := text(status, "state", "waiting", "reason"):
            said.append(f"{text(status, 'name')} waits: {reason} {text(status, 'state', 'waiting', 'message')}".strip())
        if (end := ended(status)) and (when := time_ms(text(end, "finishedAt"))) >= moment:
            moment, last = when, f"at this time {text(status, 'name')} {_end(end)}"
    said += [last] if last else []
    moment = moment or time_ms(text(pod, "status", "startTime"))
    said += [f"node {node}"] if (node := text(pod, "spec", "nodeName")) else []
    return _row(moment, f"{namespace(pod)}/{name(pod)}", "; ".join(said), namespace(pod))


def limit_rows(pod: Object) -> Iterator[LogRecord]:
    """A row a container: requests, limits, and how it last ended."""
    known = {text(s, "name"): s for s in statuses(pod)}
    for container in objects(pod, "spec", "initContainers") + objects(pod, "spec", "containers"):
        status = known.get(text(container, "name"), {})
        end = ended(status)
        said = [f"{what} {_amounts(at(container, 'resources', what))}" for what in ("requests", "limits")]
        said += [f"restarts {number(status, 'restartCount')}"]
        said += [f"at this time it {_end(end)}"] if end else []
        moment = time_ms(text(end, "finishedAt")) or time_ms(text(pod, "status", "startTime"))
        whose = f"{namespace(pod)}/{name(pod)}/{text(container, 'name')}"
        yield _row(moment, whose, "; ".join(said), namespace(pod))


def _amounts(found: Any) -> str:
    given = {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}
    return ", ".join(f"{k} {given[k]}" for k in sorted(given)) or "none"


def _end(end: Object) -> str:
    words = f"ended: {text(end, 'reason') or 'no reason given'}, exit code {number(end, 'exitCode')}"
    return f"{words}, {message}" if (message := text(end, "message")) else words


def _row(moment_ms: int, whose: str, said: str, where: str) -> LogRecord:
    resource = labels_of({"service.name": whose, "k8s.namespace.name": where})
    return LogRecord(moment_ms * 1_000_000, Untrusted(said), resource=resource)


# ------------------------------------------------------------------ logs


def log_rows(body: str, pod: Object, container: str) -> Iterator[LogRecord]:
    """Lines as ``timestamps=true`` gives them: a time, a space, the line."""
    resource = labels_of({"service.name": f"{name(pod)}/{container}", "k8s.namespace.name": namespace(pod)})
    for line in body.splitlines():
        stamp, _, rest = line.partition(" ")
        moment = time_ms(stamp)
        yield LogRecord(moment * 1_000_000, Untrusted(rest if moment else line), resource=resource)


# ------------------------------------------------------------------ events and rollouts


def event_row(event: Object) -> ChangeEvent:
    moment = max((time_ms(text(event, *keys)) for keys in _TIMES[:4]), default=0)
    times = number(event, "series", "count") or number(event, "count")
    about = f"{text(event, 'involvedObject', 'kind')}/{text(event, 'involvedObject', 'name')}"
    return ChangeEvent(
        moment or time_ms(text(event, *_TIMES[4])),
        " ".join(w for w in (text(event, "type"), text(event, "reason")) if w),
        f"{namespace(event)}/{about}",
        Untrusted(text(event, "message") + (f" (seen {times} times)" if times > 1 else "")),
        author=text(event, "source", "component") or text(event, "reportingComponent"),
        environment=namespace(event),
    )


def owner(replica_set: Object) -> str:
    """The Deployment that a replica set belongs to; empty where it has none."""
    owners = objects(replica_set, "metadata", "ownerReferences")
    return next((text(o, "name") for o in owners if text(o, "kind") == "Deployment"), "")


def rollout_row(replica_set: Object, current: str) -> ChangeEvent:
    """A revision of a Deployment; ``current`` is the revision that is rolled out, or empty."""
    notes = at(replica_set, "metadata", "annotations")
    revision, cause = text(notes, REVISION), text(notes, "kubernetes.io/change-cause")
    images = [
        f"{text(c, 'name')} {text(c, 'image')}" for c in objects(replica_set, "spec", "template", "spec", "containers")
    ]
    said = f"revision {revision or 'unknown'}" + (" (current)" if revision and revision == current else "")
    said += f": {', '.join(images)}; {number(replica_set, 'status', 'readyReplicas')} of "
    said += f"{number(replica_set, 'spec', 'replicas')} replicas ready" + (f"; cause: {cause}" if cause else "")
    return ChangeEvent(
        time_ms(text(replica_set, "metadata", "creationTimestamp")), "rollout",
        f"{namespace(replica_set)}/{owner(replica_set)}", Untrusted(said), environment=namespace(replica_set),
    )  # fmt: skip
