"""Kubernetes, read by its API: pods as they are, their events, logs (of an earlier run too), rollouts, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from aiops.agent.tools import _kubernetes_objects as objects
from aiops.agent.tools._kubernetes_client import KubernetesClient, KubernetesOptions, Refused
from aiops.agent.tools._kubernetes_objects import Object
from aiops.core.errors import Forbidden, NotFound
from aiops.core.ports import Collected, PluginContext, Tool
from aiops.core.principal import Principal
from aiops.core.series import Matcher, MatchOp, SampleBlock, labels_of
from aiops.core.signals import LogRecord
from aiops.promql.matching import compile_regex

PAGE = 250
PAGES = 4
"""Pages of one list that are read; what is beyond is said to be left out."""
LOG_PODS = 3
LOG_CONTAINERS = 4
LOG_BYTES = 1024 * 1024
_NAME = r"^$|^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_APP = ("app.kubernetes.io/name", "app.kubernetes.io/instance", "app", "k8s-app")


class KubernetesArguments(BaseModel):
    """``name`` is a pod or workload, or the beginning of its name. Times are ms UTC, 0 for open; half-open.

    ``state`` keeps pods that are so; ``previous`` reads the log of a container's run before its last restart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: Literal["pods", "events", "logs", "rollouts", "limits"]
    namespace: str = Field("", max_length=63, pattern=_NAME)
    name: str = Field("", max_length=253, pattern=_NAME)
    container: str = Field("", max_length=63, pattern=_NAME)
    state: Literal["", "crash_looping", "pending", "oom_killed", "failed", "not_ready", "restarted"] = ""
    previous: bool = False
    tail_lines: int = Field(50, ge=1, le=2000)
    start_ms: int = Field(0, ge=0)
    end_ms: int = Field(0, ge=0)

    def covers(self, moment_ms: int) -> bool:
        return self.start_ms <= moment_ms and (not self.end_ms or moment_ms < self.end_ms)


@dataclass(frozen=True, slots=True)
class Where:
    """Namespaces to list, "" for all at once, and which of the rows the asker may see."""

    names: tuple[str, ...]
    sees: Callable[[str], bool]


class Kubernetes(Tool[KubernetesOptions]):
    """GET requests only. A principal with a label scope sees what its matchers on ``namespace`` allow; a scope on
    anything else is refused, since nothing in Kubernetes would hold it.
    """

    Options = KubernetesOptions
    Arguments = KubernetesArguments
    subject = "kubernetes"

    def __init__(self, options: KubernetesOptions, context: PluginContext) -> None:
        super().__init__(options, context)
        self._api = KubernetesClient(options, context.name)

    def close(self) -> None:
        self._api.close()

    def run(self, arguments: BaseModel, principal: Principal) -> Collected:
        """Newest first; pods in trouble first. ``samples`` hold how many pods were looked at.

        Raises:
            Forbidden: a namespace outside the scope or the configured ones, or a scope on other labels.
            NotFound: nothing has the name, or there is no log to read.
            TransientError, PermanentError: the server did not answer, or refused.
        """
        assert isinstance(arguments, KubernetesArguments)
        where = self._where(arguments.namespace, principal)
        return {
            "pods": self._pods,
            "events": self._events,
            "logs": self._logs,
            "rollouts": self._rollouts,
            "limits": self._limits,
        }[arguments.what](arguments, where)

    # ------------------------------------------------------------ scope

    def _where(self, asked: str, principal: Principal) -> Where:
        scope = principal.scope or ()
        if other := next((m.name for m in scope if m.name != "namespace"), ""):
            raise Forbidden(f"Kubernetes cannot be looked into with a scope on the label '{other}'.",
                            hint="A scope on 'namespace' alone can be kept there.")  # fmt: skip
        listed = self.options.namespaces

        def sees(namespace: str) -> bool:
            return bool(namespace) and (not listed or namespace in listed) and all(_holds(m, namespace) for m in scope)

        if asked:
            if not sees(asked):
                raise Forbidden(f"The namespace '{asked}' is not among those that you may see here.")
            return Where((asked,), sees)
        names = listed or tuple(m.value for m in scope if m.op is MatchOp.EQUAL)[:1]
        names = tuple(n for n in names if sees(n))
        if (listed or any(m.op is MatchOp.EQUAL for m in scope)) and not names:
            raise Forbidden("None of the namespaces that are looked into is among those that you may see.")
        return Where(names or ("",), sees)

    def _list(
        self, group: str, resource: str, where: Where, query: Mapping[str, str | int] | None = None
    ) -> tuple[list[Object], float]:
        """Objects of the namespaces, and the share of them that was read."""
        found: list[Object] = []
        left = 0
        for namespace in where.names:
            path = f"{group}/namespaces/{namespace}/{resource}" if namespace else f"{group}/{resource}"
            given: dict[str, str | int] = {"limit": PAGE, **(query or {})}
            for page in range(1, PAGES + 1):
                answer = self._api.json(path, given)
                found += [o for o in objects.objects(answer, "items") if where.sees(objects.namespace(o))]
                if not (following := objects.text(answer, "metadata", "continue")):
                    break
                given["continue"] = following
                if page == PAGES:
                    left += max(1, objects.number(answer, "metadata", "remainingItemCount"))
        return found, len(found) / (len(found) + left) if left else 1.0

    def _found_pods(self, arguments: KubernetesArguments, where: Where) -> tuple[list[Object], float]:
        """Pods that the name stands for. Raises ``NotFound`` where none does."""
        if not arguments.name:
            return self._list("/api/v1", "pods", where)
        exact, _ = self._list("/api/v1", "pods", where, {"fieldSelector": f"metadata.name={arguments.name}"})
        if exact:
            return exact, 1.0
        pods, done = self._list("/api/v1", "pods", where)
        named = _named(pods, arguments.name, lambda pod: [objects.name(pod)])
        named = named or [p for p in pods if arguments.name in _app_names(p)]
        if not named:
            raise NotFound(f"No pod is named '{arguments.name}', begins so or is labelled so{_in(arguments)}.")
        return named, done

    # ------------------------------------------------------------ look-ups

    def _pods(self, arguments: KubernetesArguments, where: Where) -> Collected:
        pods, done = self._found_pods(arguments, where)
        kept = [p for p in pods if not arguments.state or objects.in_state(p, arguments.state)]
        rows = [objects.pod_row(p) for p in sorted(kept, key=objects.trouble)]
        return self._rows(rows, arguments, done, {"pods looked at": len(pods), "pods": len(kept)})

    def _limits(self, arguments: KubernetesArguments, where: Where) -> Collected:
        pods, done = self._found_pods(arguments, where)
        rows = [row for p in sorted(pods, key=objects.trouble) for row in objects.limit_rows(p)]
        return self._rows(rows, arguments, done, {"pods looked at": len(pods)})

    def _logs(self, arguments: KubernetesArguments, where: Where) -> Collected:
        if not arguments.name:
            raise NotFound("Whose logs are wanted is not said.", hint="Name a pod or a workload.")
        pods, done = self._found_pods(arguments, where)
        pods = sorted(pods, key=objects.trouble)
        rows: list[LogRecord] = []
        why = ""
        for pod in pods[:LOG_PODS]:
            for container in _containers(pod, arguments)[:LOG_CONTAINERS]:
                try:
                    rows += self._log_of(pod, container, arguments)
                except Refused as error:
                    if error.status != 400:
                        raise
                    why = f" {error.message}"  # it waits to start, or the earlier run is no longer kept
        if not rows and arguments.previous and not why:
            why = " No container of it has ended before."
        if not rows and why:
            run = "earlier run" if arguments.previous else "log"
            raise NotFound(f"There is no {run} of '{arguments.name}' to read{_in(arguments)}.{why}")
        rows.sort(key=lambda r: r.time_unix_nano)
        rows.reverse()  # of equal times too, the last one written comes first
        done = min(done, min(1.0, LOG_PODS / len(pods)))
        return self._rows(rows, arguments, done, {"pods looked at": len(pods[:LOG_PODS])})

    def _log_of(self, pod: Object, container: str, arguments: KubernetesArguments) -> list[LogRecord]:
        query: dict[str, str | int] = {
            "container": container, "timestamps": "true", "limitBytes": LOG_BYTES,
            "tailLines": self.options.max_lines if arguments.end_ms else self._most(arguments),
        }  # fmt: skip
        if arguments.previous:
            query["previous"] = "true"
        if arguments.start_ms:
            query["sinceTime"] = datetime.fromtimestamp(arguments.start_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/api/v1/namespaces/{objects.namespace(pod)}/pods/{objects.name(pod)}/log"
        body = self._api.get(path, query).decode("utf-8", "replace")
        rows = objects.log_rows(body, pod, container)
        return [r for r in rows if not r.time_unix_nano or arguments.covers(r.time_unix_nano // 1_000_000)]

    def _events(self, arguments: KubernetesArguments, where: Where) -> Collected:
        events, done = self._list("/api/v1", "events", where)
        if arguments.name:
            events = _named(events, arguments.name, lambda e: [objects.text(e, "involvedObject", "name")])
        rows = [row for e in events if arguments.covers((row := objects.event_row(e)).time_ms)]
        rows.sort(key=lambda c: -c.time_ms)
        shown = rows[: self._most(arguments)]
        return Collected(
            changes=tuple(shown), samples=self._counts({"events": len(rows)}), done=min(done, _share(shown, rows))
        )

    def _rollouts(self, arguments: KubernetesArguments, where: Where) -> Collected:
        sets, done = self._list("/apis/apps/v1", "replicasets", where)
        deployments, _ = self._list("/apis/apps/v1", "deployments", where)
        sets = [s for s in sets if objects.owner(s)]
        if arguments.name:
            sets = _named(sets, arguments.name, lambda s: [objects.owner(s)])
            if not sets:
                raise NotFound(f"No Deployment is named '{arguments.name}' or begins so{_in(arguments)}.")
        current = {
            (objects.namespace(d), objects.name(d)): objects.text(d, "metadata", "annotations", objects.REVISION)
            for d in deployments
        }
        rows = [objects.rollout_row(s, current.get((objects.namespace(s), objects.owner(s)), "")) for s in sets]
        rows = sorted((r for r in rows if arguments.covers(r.time_ms)), key=lambda c: -c.time_ms)
        shown = rows[: self._most(arguments)]
        return Collected(
            changes=tuple(shown), samples=self._counts({"revisions": len(rows)}), done=min(done, _share(shown, rows))
        )

    # ------------------------------------------------------------ bounds

    def _most(self, arguments: KubernetesArguments) -> int:
        return min(arguments.tail_lines, self.options.max_lines)

    def _rows(
        self, rows: list[LogRecord], arguments: KubernetesArguments, done: float, counts: Mapping[str, int]
    ) -> Collected:
        shown = rows[: self._most(arguments)]
        return Collected(logs=tuple(shown), samples=self._counts(counts), done=min(done, _share(shown, rows)))

    def _counts(self, counts: Mapping[str, int]) -> SampleBlock:
        return SampleBlock.at(
            self.context.clock(), [(labels_of({"__name__": name}), float(n)) for name, n in counts.items()]
        )


def _share(shown: list[Any], rows: list[Any]) -> float:
    return len(shown) / len(rows) if rows else 1.0


def _holds(matcher: Matcher, value: str) -> bool:
    if matcher.op in (MatchOp.EQUAL, MatchOp.NOT_EQUAL):
        return (value == matcher.value) is (matcher.op is MatchOp.EQUAL)
    found: bool = compile_regex(matcher.value).fullmatch(value) is not None
    return found is (matcher.op is MatchOp.REGEX)


def _named(items: Iterable[Object], wanted: str, names: Callable[[Object], list[str]]) -> list[Object]:
    """Those of exactly the name; else those that continue it after a dash; else those that begin so."""
    rows = [(names(item), item) for item in items]
    ways: tuple[Callable[[str], bool], ...] = (
        lambda n: n == wanted,
        lambda n: n.startswith(f"{wanted}-"),
        lambda n: n.startswith(wanted),
    )
    for fits in ways:
        if found := [item for own, item in rows if any(fits(n) for n in own)]:
            return found
    return []


def _app_names(pod: Object) -> list[str]:
    return [objects.text(pod, "metadata", "labels", label) for label in _APP]


def _containers(pod: Object, arguments: KubernetesArguments) -> list[str]:
    """Containers whose log is read: the named one, or those that have run, before where that is asked."""
    if arguments.container:
        return [arguments.container]
    if not arguments.previous:
        return [objects.text(c, "name") for c in objects.objects(pod, "spec", "containers")]
    return [
        objects.text(s, "name")
        for s in objects.statuses(pod)
        if objects.number(s, "restartCount") or objects.at(s, "lastState", "terminated")
    ]


def _in(arguments: KubernetesArguments) -> str:
    return f" in the namespace '{arguments.namespace}'" if arguments.namespace else ""
