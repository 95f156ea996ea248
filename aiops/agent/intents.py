"""What kind of help a prompt asks for: rules over wording, no model.

``investigate`` a fault, ``logs``, ``traces``, ``metrics`` (a figure or chart), ``state`` (what is there now),
``clarify`` (nothing to look up is named). ``cost``, ``change``, ``discover`` and ``action`` are finer kinds that
the planner uses.
"""

from __future__ import annotations

import re

from aiops.agent.words import content

INTENTS = ("investigate", "logs", "metrics", "state", "traces", "clarify")


def _any(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{words})\b", re.IGNORECASE)


_COST = _any(
    r"(?:do|did|are) we pay(?:ing)?|paid|overspend\w*|pric(?:e|es|ey|iest)|costl\w+|spends?|spent|spending|costs?"
    r"|bills?|billing|charges|invoice|budgets?|money|dollars|euros?|expens\w+"
)
_TIME_SPENT = re.compile(
    r"\bspen[dt]\w*\s+(?:(?:the|its|their|too|so|most|more|much|all|of|longest)\s+)*time\b", re.IGNORECASE
)
_NAMES = re.compile(r"\b(?:billing|invoices?|charges|budgets?)\b", re.IGNORECASE)
"""Words of money that services, queues and consumers are named with."""
_ACTION = re.compile(
    r"^\W*(?:(?:please|can you|could you|pls)\s+)*(?:restart|reboot|roll ?back|scale|silence|mute|drain|cordon"
    r"|kill)\b",
    re.IGNORECASE,
)
_CHANGE = _any(r"what(?: has|'s| have)? changed|recent changes|(?:recent|latest|last) deploy\w*|who deployed|deployed")
_DISCOVER = _any(
    r"(?:what|which) metrics|what (?:does|do) [\w-]+ (?:depend|rely) on|depends? on|dependencies of"
    r"|list (?:all )?(?:the )?metrics|how many services (?:do|are|exist|run)|what can (?:i|you)|help|available metrics"
    r"|(?:which|what) services (?:do|are there|exist|run|we)|list (?:all )?(?:the |our )?services"
    r"|service map|call graph|who (?:calls|is calling|uses)"
)
_TRACES = _any(r"traces?|tracing|spans?|tempo|jaeger|zipkin")
_LOGS = _any(
    r"logs?|log ?lines?|logged|logging|loki|stack ?traces?|exceptions?|tracebacks?|error messages?|kibana|opensearch"
)
_METRICS = _any(
    r"graphs?|charts?|plot|promql|prometheus|metrics?|usage|utili[sz]ation|latency|percentile|p\d\d|throughput|rps|qps"
    r"|(?:cpu|memory|disk|network)|trend|bandwidth|requests per second|error rate|histogram|dashboard"
)
_SHOWS = _any(r"graph|chart|plot|promql|query|trend|dashboard|visuali[sz]e|draw")
_FAULT = _any(
    r"why|wrong|root cause|investigat\w+|diagnos\w+|troubleshoot\w*|debug|issues?|problems?|broken|break\w*|fail\w*"
    r"|crash\w*|not (?:working|running|starting|ready|responding|coming up|scheduling|able)|isn't|aren't"
    r"|can't|cannot|won't"
    r"|doesn't|unhealthy|stuck|down|outage|incident|alerts?|firing|errors?|oom\w*|killed|evicted|pending|degraded|slow"
    r"|what happened|explain|cause[sd]?|fix|resolve|help me understand|misconfigur\w+|throttl\w+|healthy|health|unable"
    r"|high (?:cpu|memory|latency)|timeouts?|refused|affected|impact\w*"
)
_STATE = re.compile(
    r"^\W*(?:(?:please|can you|could you)\s+)*(?:how many|list|which|what (?:is|are|version|images?|nodes?|pods?"
    r"|namespaces?)"
    r"|what's the|show(?: me)?|get|describe|count|is|are|do|does|tell me|give me|name|where|who|when|find)\b",
    re.IGNORECASE,
)
_WHY = _any(
    r"why|root cause|investigat\w+|diagnos\w+|troubleshoot\w*|debug"
    r"|what(?:'s| is| are|s)? (?:wrong|the (?:problem|issue|cause))"
    r"|what happened|explain|caus(?:e|ed|es|ing)"
)
_VAGUE = _any(r"it|this|that|something|thing|things|stuff|them|there|everything|anything|here|app|application|system")


def classify(prompt: str) -> str:
    """The finest intent: one of :data:`INTENTS`, or cost, change, discover, action."""
    if _ACTION.search(prompt):
        return "action"
    if _COST.search(_TIME_SPENT.sub(" ", prompt)):
        return "cost"
    if _DISCOVER.search(prompt):
        return "discover"
    if _CHANGE.search(prompt) and not _WHY.search(prompt):
        return "change"
    return classify_core(prompt)


def may_be_name(word: str) -> bool:
    """Whether a word of money is also one that things are named with."""
    return _NAMES.fullmatch(word) is not None


def may_only_name(prompt: str) -> bool:
    """Whether all words of money in a prompt may as well be names of things."""
    return _COST.search(_NAMES.sub(" ", prompt)) is None


def classify_core(prompt: str) -> str:
    """One of :data:`INTENTS`."""
    named = [w for w in content(prompt) if not _VAGUE.fullmatch(w) and not _FAULT.fullmatch(w)]
    if not named and not _STATE.search(prompt):
        return "clarify"
    if _TRACES.search(prompt) and not re.search(r"stack ?trace|traceback", prompt, re.IGNORECASE):
        return "traces"
    if _WHY.search(prompt):
        return "investigate"
    if _LOGS.search(prompt):
        return "logs"
    if _METRICS.search(prompt) and (_SHOWS.search(prompt) or not _FAULT.search(prompt)):
        return "metrics"
    if re.match(r"\W*(?:how many|list|count)\b", prompt, re.IGNORECASE):
        return "state"
    if _FAULT.search(prompt):
        return "investigate"
    if _STATE.search(prompt):
        return "state"
    return "investigate"
