"""Questions that a read-only tool answers: phrases about pods and workloads become look-ups in Kubernetes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from aiops.agent.intents import may_only_name
from aiops.agent.words import STOP
from aiops.core.query import Question, ToolStep, Window

KUBERNETES = "kubernetes"
MOST_STEPS = 8


@dataclass(frozen=True, slots=True)
class Looked:
    """Look-ups for a question. ``only`` says that a metric, if one sounds alike, does not hold the answer."""

    steps: tuple[ToolStep, ...]
    confidence: float
    only: bool


@dataclass(frozen=True, slots=True)
class About:
    """What a question names: the kind of object as it is said, its name, its namespace; each may be empty."""

    kind: str = ""
    name: str = ""
    namespace: str = ""


def read(
    question: Question,
    rest: str,
    window: Window | None,
    intent: str,
    known: Collection[str],
    tools: Mapping[str, Sequence[str]],
) -> Looked | None:
    """Look-ups, or ``None`` where no tool is configured or it is not asked for what one holds.

    Args:
        rest: the question without its time phrase.
        known: live services, in lower case.
        tools: configured names by subject; several clusters are all looked into unless the question names one.
    """
    clusters = tuple(tools.get(KUBERNETES, ()))
    low = rest.lower()
    money = intent == "cost" and not may_only_name(question.text)
    if not clusters or money or intent == "action":
        return None
    about = _about(low, known)
    counts = _QUANTITY.search(low) is not None
    found = None if counts else _events(low, about) or _logs(low, about) or _rollouts(low, about)
    past = window is not None and window.end_ms is not None and window.end_ms < question.asked_ms
    if found is None and not past:  # pods are known as they are now
        found = None if counts else _limits(low, about) or _why(low, about)
        found = found or (_state(low, about) if not counts or _HOW_MANY_PODS.search(low) else None)
    if found is None:
        return None
    asked = [c for c in clusters if re.search(rf"\b{re.escape(c.lower())}\b", low) and len(clusters) > 1] or clusters
    steps = [_step(cluster, title, args, about, window, many=len(asked) > 1)
             for title, args in found[0] for cluster in asked]  # fmt: skip
    return Looked(tuple(steps[:MOST_STEPS]), found[1], found[2])


Args = dict[str, str | int | float | bool]
Asked = tuple[list[tuple[str, Args]], float, bool]


def _step(cluster: str, title: str, args: Args, about: About, window: Window | None, *, many: bool) -> ToolStep:
    given = {**args, **({"namespace": about.namespace} if about.namespace else {})}
    given |= {"name": about.name} if about.name else {}
    of = f" of {about.name}" if about.name else ""
    where = f" in namespace {about.namespace}" if about.namespace else ""
    said = f"{title}{of}{where}" + (f" ({cluster})" if many else "")
    if window is None or args["what"] in ("pods", "limits"):
        return ToolStep(title=said[:200], name=cluster, args=given)
    return ToolStep(title=said[:200], name=cluster, args=given, window=window)


# ------------------------------------------------------------------ what is asked


def _events(low: str, about: About) -> Asked | None:
    if not re.search(r"\bevents?\b", low) or not (about.name or about.namespace or _CLUSTER.search(low)):
        return None
    return [("events", {"what": "events"})], 0.85, True


def _logs(low: str, about: About) -> Asked | None:
    if not re.search(r"\b(?:logs?|logged|log lines?|output)\b", low):
        return None
    previous = _PREVIOUS.search(low) is not None
    if not about.name or not (about.kind or previous):
        return None
    return [("log of the earlier run" if previous else "log lines", _log_args(previous=previous))], 0.85, True


def _log_args(*, previous: bool) -> Args:
    return {"what": "logs", "previous": True} if previous else {"what": "logs"}


def _rollouts(low: str, about: About) -> Asked | None:
    if not re.search(r"\b(?:roll-?\s?outs?|revisions?|replica ?sets?)\b", low):
        return None
    if not re.search(r"\b(?:history|histories|revisions?|replica ?sets?|past|previous|earlier|last|latest)\b", low):
        return None
    if not (about.name or about.namespace or _CLUSTER.search(low)):
        return None
    return [("rollout history", {"what": "rollouts"})], 0.85, True


def _limits(low: str, about: About) -> Asked | None:
    if not re.search(r"\blimits?\b|\bresource requests?\b|\brequests and limits\b", low) or _AGAINST.search(low):
        return None
    if not (about.kind and about.name):
        return None
    return [("requests, limits and last ends", {"what": "limits"})], 0.85, True


def _why(low: str, about: About) -> Asked | None:
    """A named pod or workload in trouble: its state, its events, and where it ended, what it said before."""
    if not (about.kind and about.name) or not _TROUBLE.search(low):
        return None
    died = re.search(r"\b(?:re-?start\w*|crash\w*|oom\w*|kill\w*|dying|dies|died|terminat\w*|exit\w*)\b", low)
    if _MEASURED.search(low) and not died:
        return None
    steps: list[tuple[str, Args]] = [("pods", {"what": "pods"}), ("events", {"what": "events"})]
    if died:
        steps.append(("log of the earlier run", _log_args(previous=True)))
    return steps, 0.85, True


def _state(low: str, about: About) -> Asked | None:
    """Pods in a state; a metric of it, where there is one, is as good and has a past."""
    if not re.search(r"\bpods?\b", low):
        return None
    for state, words, title in _STATES:
        if re.search(words, low):
            return [(title, {"what": "pods", "state": state})], 0.75, False
    if about.namespace and re.search(r"^\W*(?:list|show|which|what|get|describe|status)\b|\bstatus\b", low):
        return [("pods", {"what": "pods"})], 0.75, False
    return None


_STATES = (
    ("crash_looping", r"\bcrash\w*", "pods that are crash looping"),
    ("oom_killed", r"\boom\w*|\bout of memory\b", "pods whose container ran out of memory"),
    ("pending", r"\bpending\b|\bunschedul\w*|\b(?:not|cannot|can't) (?:be )?schedul\w*", "pods that are pending"),
    ("failed", r"\bfail\w*|\bevict\w*|\bimage ?pull\w*|\bpull\w* (?:its |their |the )?images?\b", "pods that failed"),
    ("not_ready", r"\bnot (?:ready|running|healthy|ok)\b|\bun(?:ready|healthy)\b|\b(?:broken|stuck|wrong|trouble)\b",
     "pods that are not ready"),
    ("restarted", r"\bre-?start\w*", "pods that have restarted"),
)  # fmt: skip
_QUANTITY = re.compile(r"\b(?:how (?:many|much|often|fast)|number of|count of|rate of|per (?:second|minute|hour))\b")
_HOW_MANY_PODS = re.compile(r"\b(?:how many|number of|count of) pods\b")
_CLUSTER = re.compile(r"\b(?:kubernetes|k8s|kube|kubectl|pods?|deployments?|statefulsets?|daemonsets?)\b")
_PREVIOUS = re.compile(
    r"\b(?:previous|prior|earlier|crashed|last run)\b"
    r"|\bbefore (?:(?:it|the|its|that|their) )?(?:(?:last|pod|container) )*"
    r"(?:crash\w*|re-?start\w*|died|ended|exit\w*)\b"
)
_AGAINST = re.compile(
    r"\b(?:close to|near\w*|against|over|above|exceed\w*|hit(?:ting)?|reach\w*|percent|utili[sz]ation|usage|used|rate"
    r"|connections?|files?)\b"
)
_TROUBLE = re.compile(
    r"\b(?:why|wrong|problems?|issues?|trouble|re-?start\w*|crash\w*|oom\w*|kill\w*|fail\w*|pending|stuck"
    r"|not (?:ready|running|starting|healthy)|un(?:ready|healthy)|evict\w*|terminat\w*|image ?pull\w*|status|state"
    r"|describe|happen\w*|dying|dies|died|exit\w*)\b"
)
_MEASURED = re.compile(r"\b(?:cpu|memory|ram|disk|network|latency|traffic|throughput|slow\w*|errors?|bandwidth)\b")

# ------------------------------------------------------------------ names

_N = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
_QUOTE = r"[\"'`“‘]?"
_KIND = r"(?:pods?|po|containers?|deployments?|deploy|statefulsets?|daemonsets?|replicasets?|workloads?)"
_KIND_NAME = re.compile(rf"\b({_KIND})(?:\s+(?:named|called)\s+|\s+|/){_QUOTE}({_N}(?:/{_N})?)")
_NAME_KIND = re.compile(rf"(?<![\w./-])({_N})(?:'s)?\s+({_KIND})\b")
_OF_NAME = re.compile(rf"\b(?:of|for|from)\s+(?:the\s+)?{_QUOTE}({_N})")
_NAMESPACE = re.compile(rf"(?:\b(?:namespace|ns)\s+{_QUOTE}|(?:^|\s)(?:-n|--namespace)[\s=]+)({_N})")
_IN_NAMESPACE = re.compile(rf"(?<![\w./-])({_N})\s+namespace\b")
_COMMON = re.compile(
    r"(?:all|any|each|every|which|what|my|our|this|that|these|those|other|same|new|old|some|one|per|by|last|latest"
    r"|recent|current|previous|earlier|restart|crash|crashe|crashing|loop|log|event|histor(?:y|ie)|roll-?out|revision"
    r"|limit|request|cpu|memory|ram|network|disk|status|state|statuse|kill|oom|oomkill|fail|failure|pend|evict|eviction"
    r"|schedul|scheduling|unschedulable|ready|unready|readines|health|healthy|unhealthy|run|start|stop|stuck|wait|die"
    r"|dy|count|number|usage|use|us|age|image|pull|name|label|node|namespace|ns|cluster|kubernete|k8s|kube|deploy"
    r"|deployment|pod|container|workload|statefulset|daemonset|replicaset|creat|create|creation|terminat|terminate"
    r"|termination|throttl|throttle|slow|error|issue|problem|wrong|down|up|with|without|most|least|resource|exit|code"
    r"|crash-loop|crashloop|crashloopbackoff|imagepullbackoff|out-of-memory|production|prod|list|show|get|describe|total"
    r"|time|change|update|scale|replica|top|high|low|not|still|keep|go|back|off|come)"
    r"(?:s|ed|ing|ned|ning|ped|ping|ted|ting|led|ling)?"
)
"""Words that stand beside "pod" and "deployment" without being a name."""


def _about(low: str, known: Collection[str]) -> About:
    space = ""
    for pattern in (_NAMESPACE, _IN_NAMESPACE):
        space = space or next((m.group(1) for m in pattern.finditer(low) if _is_name(m.group(1))), "")
    for match in _KIND_NAME.finditer(low):
        kind, whole = match.groups()
        inside, _, name = whole.rpartition("/")
        if _is_name(name) and name != space:
            return About(kind, name, inside or space)
    for match in _NAME_KIND.finditer(low):
        name, kind = match.groups()
        if name != space and _is_name(name) and (name in known or any(c.isdigit() for c in name)):
            return About(kind, name, space)
    name = next((m.group(1) for m in _OF_NAME.finditer(low) if _is_name(m.group(1)) and m.group(1) != space), "")
    return About("", name, space)


def _is_name(word: str) -> bool:
    return word not in STOP and not _COMMON.fullmatch(word)
