"""What a question says beside its concept: shape, threshold, quantile, and labels that exist live."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aiops.agent.catalogue import LabelValues
from aiops.agent.words import STOP, group, raw_tokens
from aiops.core.query import Shape

_OVER = (
    r"(?:\bover|above|more than|slower than|greater than|higher than|exceed(?:s|ing)?|beyond|past|longer than"
    r"|older than|larger than|bigger than|hotter than|warmer than|heavier than|>|at least|>=|or more)"
)
_UNDER = (
    r"(?:\bunder|below|less than|fewer than|\blower than|faster than|smaller than|shorter than|younger than"
    r"|cooler than|colder than|<|at most|<=|within)"
)
_NUMBER = (
    r"(\d+(?:\.\d+)?)\s*(%|percent|pct|[kmgt]i?b(?:ytes)?|bytes|b\b|ms\b|milliseconds?|s\b|secs?\b|seconds?"
    r"|m\b|min(?:ute)?s?\b|h\b|hours?|days?|weeks?|k\b)?"
)
_THRESHOLD = re.compile(rf"({_OVER}|{_UNDER})\s+(?:than\s+)?(?:the\s+)?{_NUMBER}")
_QUANTILE = re.compile(r"\bp(\d{2,3}|50)\b|\b(\d{2})(?:th|st|nd|rd)?\s*(?:percentile|pctl|quantile)\b|\b(median)\b")
_BYTES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

_SHAPES: tuple[tuple[Shape, re.Pattern[str]], ...] = (
    ("forecast", re.compile(
        r"\b(forecast|predict(?:ed|ion)?|projected|on track to|heading (?:for|to)|going to (?:run|fill|be full|hit)"
        r"|about to (?:run out|fill)|(?:do|does) (?:we|any|the|\w+) .*\brun out\b|at this (?:rate|pace)|(?:when"
        r"|how (?:long|soon)|will)\b.*"
        r"\b(?:full|fill|run out|exhaust\w*|out of|reach|hit|last))\b|\bbefore\b.*\b(?:full|runs? out|fills? up)\b"
        r"|\bfills? up (?:in|within|by)\b")),
    ("age", re.compile(r"\b(how old|how long ago|how long (?:has|have|is|since)|time since|age of|when (?:was|did"
    r"|were)"
                       r"|since when|uptime|last time)\b")),
    ("change", re.compile(r"\b(grow(?:ing|th|n|s)?|grew|shrink\w*|increas(?:e|ed|ing)|decreas(?:e|ed|ing)"
                          r"|how many times"
                          r"|changed by|went up by|rising|climb(?:ing|ed)?)\b")),
    ("count", re.compile(r"\b(how many|number of|count of|count)\b")),
    ("series", re.compile(r"\b(graph|chart|plot|trend|over time|over the (?:last|past)|history|timeline)\b")),
    ("top", re.compile(r"\b(top \d+|top|most|highest|biggest|largest|worst|busiest|heaviest|hungriest|slowest)\b")),
)  # fmt: skip
_USED = re.compile(r"\b(used|in use|usage|utili[sz]ation|utili[sz]ed|full|fullest|filled|occupied|consum\w+)\b")
_PLACES = (
    ("namespace", ("namespace", "k8s_namespace_name"), re.compile(r"\b(?:namespace|ns)\s+(\S+)"
    r"|\b(\S+)\s+namespace\b")),
    ("host", ("instance", "node", "host"), re.compile(r"\b(?:host|node|server|machine|instance)\s+(\S+)")),
    ("service", ("service_name", "service", "app", "job"), re.compile(r"\b(?:service)\s+(\S+)|\b(\S+)\s+service\b")),
    ("pod", ("pod",), re.compile(r"\bpod\s+(\S+)")),
    ("deployment", ("deployment",), re.compile(r"\bdeployment\s+(\S+)")),
    ("database", ("datname",), re.compile(r"\bdatabase\s+(\S+)")),
    ("job", ("job",), re.compile(r"\bjob\s+(\S+)")),
)  # fmt: skip
_NAME = re.compile(r"^(?=.*[\d._:/-])[a-z0-9][a-z0-9._:/-]+$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Limit:
    """A comparison as said: the number in base units (ratio, bytes, seconds), ``kind`` telling which it is."""

    op: str
    value: float
    kind: str = ""


@dataclass(frozen=True, slots=True)
class LabelSlots:
    """Equalities that hold live, and words meant as a label value that no series has, with near ones."""

    equal: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()
    near: tuple[str, ...] = field(default=())
    several: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Labels of which two values are named side by side."""


def shape_of(text: str) -> Shape | None:
    """The shape that the wording asks for; ``None`` where it says nothing."""
    low = text.lower()
    if _QUANTILE.search(low):
        return "quantile"
    for shape, pattern in _SHAPES:
        if pattern.search(low):
            return shape
    return None


def quantile_of(text: str) -> float | None:
    match = _QUANTILE.search(text.lower())
    if match is None:
        return None
    if match.group(3):
        return 0.5
    digits = match.group(1) or match.group(2)
    value = float("0." + digits)
    return value if 0 < value < 1 else None


def threshold_of(text: str) -> Limit | None:
    match = _THRESHOLD.search(text.lower())
    if match is None:
        return None
    words, number, unit = match.group(1), float(match.group(2)), (match.group(3) or "").strip()
    under = re.fullmatch(_UNDER, words) is not None
    op = {"at least": ">=", ">=": ">=", "at most": "<=", "<=": "<="}.get(words, "<" if under else ">")
    if unit in ("%", "percent", "pct"):
        return Limit(op, number / 100, "ratio")
    if unit in ("k",):
        return Limit(op, number * 1000)
    if unit.startswith("byte") or unit == "b":
        return Limit(op, number, "bytes")
    if size := re.match(r"([kmgt]i?)b", unit):
        return Limit(op, number * _BYTES[size.group(1)], "bytes")
    if unit in ("ms",) or unit.startswith("milli"):
        return Limit(op, number / 1000, "seconds")
    for prefix, factor in (("s", 1), ("mi", 60), ("m", 60), ("h", 3600), ("d", 86400), ("w", 604800)):
        if unit.startswith(prefix):
            return Limit(op, number * factor, "seconds")
    return Limit(op, number)


def top_of(text: str) -> int | None:
    """How many are asked for: "top 5"; at most 100."""
    match = re.search(r"\b(?:top|first|worst|best)\s+(\d{1,3})\b", text.lower())
    return min(100, max(1, int(match.group(1)))) if match else None


def group_of(text: str, known: Mapping[str, LabelValues | None]) -> str:
    """The label of "per pod" or "by namespace", where every metric concerned has it; empty otherwise."""
    tables = [t for t in known.values() if t is not None]
    if not tables or len(tables) < len(known):
        return ""
    shared: set[str] = set.intersection(*(set(t) for t in tables))
    low = text.lower()
    if re.search(r"\b(?:top|rank\w*|sort\w*|order\w*|most|highest|worst)\b.*\bby\b", low):
        low = re.sub(r"\bby\s+(?!service|host|instance|route|endpoint)", " ", low)
    for match in re.finditer(
        r"\b(?:per|by|for each|for every)\s+([a-z_]+)\b|\b(?:which|slow|slowest)\s+(routes?|endpoints?|paths?|urls?)\b",
        low,
    ):
        word = match.group(1) or match.group(2)
        wanted: tuple[str, ...] = next((names for place, names, _ in _PLACES if place == word.rstrip("s")), ())
        single = word.rstrip("s") if not word.endswith("ss") and word != "status" else word
        single = _SAME_LABEL.get(single, single)
        found = [name for name in (word, single, *wanted) if name in shared]
        found += sorted(name for name in shared if name.endswith(f"_{single}") or f"_{single}_" in name)
        if found:
            return str(found[0])
    return ""


_SAME_LABEL = {"endpoint": "route", "path": "route", "url": "route", "code": "status", "verb": "method"}
"""Words that people group by, and the word in the label's name."""


def asks_used(text: str) -> bool:
    """Whether the used share is meant rather than the free one."""
    low = text.lower()
    return _USED.search(low) is not None and not re.search(r"\b(left|free|available|remaining|low on)\b", low)


def labels_of(text: str, known: Mapping[str, LabelValues | None], spoken: Iterable[str] = ()) -> LabelSlots:
    """Label values named in the question, checked against the live ones of the metrics concerned.

    Args:
        known: labels by metric; ``None`` where they are not known, which leaves names unchecked.
        spoken: words of the concept itself, which are not taken for values.
    """
    tables = [t for t in known.values() if t is not None]
    if not tables:
        return LabelSlots()
    shared: dict[str, set[str]] = {}
    for name in set.intersection(*(set(t) for t in tables)):
        shared[name] = set().union(*(t[name] for t in tables))
    low = {value.lower(): value for values in shared.values() for value in values}
    words = raw_tokens(text)
    skip = set(spoken)
    equal: dict[str, str] = {}
    several: dict[str, tuple[str, ...]] = {}
    for word in dict.fromkeys(words):
        if word in skip:
            continue
        name, value = _lookup(word, shared)
        if not name or not _meant(word, name, value, text):
            continue
        if name not in equal:
            equal[name] = value
        elif _beside(equal[name], value, text):
            several[name] = (equal[name], value)
    equal = {name: value for name, value in equal.items() if name not in several}
    unknown: list[str] = []
    for _, names, pattern in _PLACES:
        for match in pattern.finditer(text.lower()):
            said = next((g for g in match.groups() if g), "").strip("?.,!\"'`")
            if len(said) < 2 or not _NAME.match(said) or said in low or _lookup(said, shared)[0]:
                continue
            if any(n in shared for n in names):
                unknown.append(said)
    near = difflib.get_close_matches(unknown[0], low, n=3, cutoff=0.6) if unknown else []
    return LabelSlots(tuple(sorted(equal.items())), tuple(unknown), tuple(low[n] for n in near), tuple(several.items()))


def _beside(one: str, other: str, text: str) -> bool:
    """Whether two values are joined in the question, as in "checkout and payment"."""
    join = r"\W+(?:(?:and|or|vs|versus|with|to|against|than)\W+)?(?:of\W+|the\W+)*"
    return re.search(rf"{re.escape(one)}{join}{re.escape(other)}\b", text, re.IGNORECASE) is not None


_NOUNS = group("kinds")
"""Words for kinds of things: as a value they are meant only where written as one."""


def _meant(word: str, name: str, value: str, text: str) -> bool:
    """Whether a word of the question names this label's value, rather than being plain English.

    A value of a label that names things (a service, a host) is meant by its name alone; one that enumerates states or
    methods, and any that is an everyday word, only where written as a value: quoted, in its own upper case, beside the
    label's word ("method get"), or before what it describes ("GET requests").
    """
    mark = re.escape(word)
    if re.search(rf"\b(?:which|what|each|every|any|per|no|how many)\s+{mark}\b", text, re.IGNORECASE):
        return False
    if name in _ORDER and word not in STOP and word not in _NOUNS:
        return True
    if not word.isalpha() and not word.isdigit():
        return True
    if re.search(rf"[\"“'‘`]{mark}[\"”'’`]", text, re.IGNORECASE):
        return True
    if value.isupper() and len(value) > 1 and not text.isupper() and re.search(rf"\b{re.escape(value)}\b", text):
        return True
    kind = "|".join(re.escape(part) for part in {name, *name.split("_")} if len(part) > 2)
    if re.search(rf"\b(?:{kind})\s*(?:=|is|of|:)?\s*{mark}\b", text, re.IGNORECASE):
        return True
    beside = rf"{kind}|requests|calls" if "method" in name else kind
    return (
        word not in STOP | {"all"} and re.search(rf"\b{mark}\s+(?:{beside})\b", text, re.IGNORECASE) is not None
    ) or ("method" in name and re.search(rf"\b{mark}\s+(?:requests|calls)\b", text, re.IGNORECASE) is not None)


_ORDER = (
    "service_name", "service", "app", "instance", "node", "host", "namespace", "pod", "deployment", "container",
    "datname", "device", "mountpoint", "queue", "topic", "consumergroup", "Hostname", "model_name",
    "gen_ai_request_model", "grpc_service", "http_route", "route", "job",
)  # fmt: skip


def _lookup(word: str, shared: Mapping[str, set[str]]) -> tuple[str, str]:
    """The label that has ``word`` as a value; for instances also without their port."""
    ordered = [n for n in _ORDER if n in shared] + sorted(set(shared) - set(_ORDER))
    for name in ordered:
        for value in shared[name]:
            if value.lower().strip("/") == word.strip("/") != "" or (
                name == "instance" and value.rsplit(":", 1)[0].lower() == word
            ):
                return name, value
    return "", ""
