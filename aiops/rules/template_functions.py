"""The functions of Prometheus' templates and of Go's, with the texts that those give."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote_plus

from aiops.core.errors import QueryError
from aiops.promql.lexer import duration_ms
from aiops.promql.matching import compile_regex
from aiops.promql.matching import expand as expand_groups
from aiops.rules.template_syntax import TemplateError

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\d+)?(?P<precision>\.\d*)?(?P<verb>[a-zA-Z%])")
MAX_WIDTH = 200
MAX_SECONDS = 2**63 / 1e9
"""Go's times are nanoseconds in an int64."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One row of ``query``."""

    labels: Mapping[str, str]
    value: float


def float_text(value: float, digits: int | None = None) -> str:
    """Go's ``%g``: shortest without ``digits``; exponents below 1e-4 and from 1e6 (or 10**digits) on."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if digits is not None:
        return f"{value:.{digits}g}"
    if value == 0:
        return "-0" if math.copysign(1, value) < 0 else "0"
    parts = Decimal(repr(value)).as_tuple()
    places = "".join(map(str, parts.digits)).rstrip("0")
    scale = len(parts.digits) - 1 + int(parts.exponent)
    if scale < -4 or scale >= 6:
        tail = f".{places[1:]}" if len(places) > 1 else ""
        return f"{'-' * parts.sign}{places[0]}{tail}e{'-' if scale < 0 else '+'}{abs(scale):02d}"
    return repr(value).removesuffix(".0")


def text_of(value: Any) -> str:
    """A value as Go's ``fmt.Print`` writes it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, datetime):
        fraction = f".{value.microsecond:06d}".rstrip("0").rstrip(".")
        return f"{value:%Y-%m-%d %H:%M:%S}{fraction} +0000 UTC"
    if isinstance(value, Sample):
        return f"{{{text_of(value.labels)} {float_text(value.value)}}}"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{k}:{text_of(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(text_of(v) for v in value) + "]"
    return str(value)


def number_of(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TemplateError(f"can't convert {type(value).__name__} to float")
    try:
        return float(value)
    except ValueError:
        raise TemplateError(f"can't convert {value!r} to float") from None


def _grown(value: float, base: float, prefixes: str) -> str:
    prefix = ""
    for candidate in prefixes.split():
        if abs(value) < base:
            break
        prefix, value = candidate, value / base
    return float_text(value, 4) + prefix


def _shrunk(value: float) -> str:
    prefix = ""
    for candidate in "munpfazy":
        if abs(value) >= 1:
            break
        prefix, value = candidate, value * 1000
    return float_text(value, 4) + prefix


def humanize(given: Any) -> str:
    value = number_of(given)
    if value == 0 or not math.isfinite(value):
        return float_text(value, 4)
    return _grown(value, 1000, "k M G T P E Z Y") if abs(value) >= 1 else _shrunk(value)


def humanize1024(given: Any) -> str:
    value = number_of(given)
    if abs(value) <= 1 or not math.isfinite(value):
        return float_text(value, 4)
    return _grown(value, 1024, "ki Mi Gi Ti Pi Ei Zi Yi")


def humanize_duration(given: Any) -> str:
    value = number_of(given)
    if not math.isfinite(value):
        return float_text(value, 4)
    if value == 0:
        return float_text(value, 4) + "s"
    if abs(value) >= 1:
        sign, value = ("-", -value) if value < 0 else ("", value)
        whole = int(value)
        seconds, minutes, hours, days = whole % 60, whole // 60 % 60, whole // 3600 % 24, whole // 86400
        if days:
            return f"{sign}{days}d {hours}h {minutes}m {seconds}s"
        if hours:
            return f"{sign}{hours}h {minutes}m {seconds}s"
        if minutes:
            return f"{sign}{minutes}m {seconds}s"
        return f"{sign}{float_text(value, 4)}s"
    return _shrunk(value) + "s"


def humanize_percentage(given: Any) -> str:
    return float_text(number_of(given) * 100, 4) + "%"


def to_time(given: Any) -> Any:
    value = number_of(given)
    if not abs(value) < MAX_SECONDS:
        raise TemplateError(f"{float_text(value)} cannot be represented as a nanoseconds timestamp")
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=math.trunc(value * 1000))


def humanize_timestamp(given: Any) -> str:
    value = number_of(given)
    return text_of(to_time(value)) if math.isfinite(value) else float_text(value, 4)


def title(text: Any) -> str:
    """Go's ``strings.Title``: the first letter of each word, the rest as it is."""
    return re.sub(r"(?<!\w)\w", lambda m: m.group().title(), _string(text))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TemplateError(f"wrong type for value; expected string; got {type(value).__name__}")
    return value


def _regex(pattern: Any) -> Any:
    try:
        return compile_regex(_string(pattern))
    except ValueError as error:
        raise TemplateError(f"a wrong regular expression {pattern!r}: {error}") from None


def re_replace_all(pattern: Any, replacement: Any, text: Any) -> str:
    """The pattern is anchored at neither end; ``$1`` and ``${name}`` are its groups."""
    template = _string(replacement)
    return str(_regex(pattern).sub(lambda match: expand_groups(template, match), _string(text)))


def match_text(pattern: Any, text: Any) -> bool:
    return _regex(pattern).search(_string(text)) is not None


def first(rows: Any) -> Any:
    if not isinstance(rows, list) or not rows:
        raise TemplateError("first() called on vector with no elements")
    return rows[0]


def _sample(row: Any) -> Sample:
    if not isinstance(row, Sample):
        raise TemplateError("what is given is no sample")
    return row


def sort_by_label(name: Any, rows: Any) -> list[Sample]:
    return sorted((_sample(r) for r in rows), key=lambda r: r.labels.get(_string(name), ""))


def parse_duration(text: Any) -> float:
    try:
        return duration_ms(_string(text)) / 1000
    except (QueryError, ValueError):
        raise TemplateError(f"not a valid duration string: {text!r}") from None


def strip_port(text: Any) -> str:
    found = re.fullmatch(r"\[?([^\[\]]*?)\]?:\d*", _string(text))
    return found.group(1) if found else str(text)


def strip_domain(text: Any) -> str:
    host, colon, port = _string(text).partition(":")
    if re.fullmatch(r"[\d.]+", host) or "::" in text:
        return str(text)
    return host.split(".")[0] + colon + port


# ------------------------------------------------------------------ Go's own


def truth(value: Any) -> bool:
    return bool(value) if not isinstance(value, Sample) else True


def _kind(value: Any) -> str:
    for kind, types in (("bool", bool), ("int", int), ("float", float), ("string", str)):
        if isinstance(value, types):
            return kind
    raise TemplateError("invalid type for comparison")


def _compare(check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compared(a: Any, b: Any) -> bool:
        if _kind(a) != _kind(b):
            raise TemplateError("incompatible types for comparison")
        return check(a, b)

    return compared


def equal(a: Any, *others: Any) -> bool:
    if not others:
        raise TemplateError("missing argument for comparison")
    same = _compare(lambda x, y: bool(x == y))
    return any(same(a, b) for b in others)


def conjunction(*values: Any) -> Any:
    return next((v for v in values if not truth(v)), values[-1])


def disjunction(*values: Any) -> Any:
    return next((v for v in values if truth(v)), values[-1])


def index(of: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(of, Mapping):
            of = of.get(key, "")
        elif isinstance(of, list) and isinstance(key, int) and 0 <= key < len(of):
            of = of[key]
        else:
            raise TemplateError(f"error calling index: no item {key!r}")
    return of


def length(of: Any) -> int:
    if not isinstance(of, str | list | Mapping):
        raise TemplateError(f"len of type {type(of).__name__}")
    return len(of.encode()) if isinstance(of, str) else len(of)


def printf(template: Any, *values: Any) -> str:
    """Go's ``fmt.Sprintf`` with the verbs v, s, q, d, f, e, g, t, x."""
    left = list(values)

    def one(match: re.Match[str]) -> str:
        verb, flags = match["verb"], match["flags"] or ""
        if verb == "%":
            return "%"
        if not left:
            return f"%!{verb}(MISSING)"
        value = left.pop(0)
        precision = int(match["precision"][1:] or 0) if match["precision"] is not None else None
        if precision is not None and precision > MAX_WIDTH:
            return f"%!{verb}(BADPREC)"
        text = _formatted(verb, flags, precision, value)
        if isinstance(value, float) and not math.isfinite(value):
            flags = flags.replace("0", "")
        width = min(int(match["width"] or 0), MAX_WIDTH)
        if "-" in flags:
            return text.ljust(width)
        if "0" in flags and text[:1] in "+-":
            return text[0] + text[1:].rjust(width - 1, "0")
        return text.rjust(width, "0" if "0" in flags else " ")

    text = _VERB.sub(one, _string(template))
    if left:
        text += "%!(EXTRA " + ", ".join(f"{_go_type(v)}={text_of(v)}" for v in left) + ")"
    return text


def _formatted(verb: str, flags: str, precision: int | None, value: Any) -> str:
    number = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    plus = "+" if "+" in flags and number and math.copysign(1, value) > 0 else ""
    if verb in "vg" and isinstance(value, float):
        return plus + float_text(value, precision).removeprefix("+" if plus else "")
    if verb == "v":
        return plus + text_of(value)
    if verb in "feEFG" and isinstance(value, float):
        if not math.isfinite(value):
            return plus + float_text(value).removeprefix("+" if plus else "")
        return plus + format(value, f".{6 if precision is None else precision}{verb}")
    if verb == "d" and number and isinstance(value, int):
        return plus + str(value)
    if verb in "xX" and number and isinstance(value, int):
        return format(value, verb)
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    if verb == "s" and isinstance(value, str):
        return value[:precision]
    if verb == "q" and isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if verb == "t" and isinstance(value, bool):
        return text_of(value)
    if verb == "s" and isinstance(value, Mapping | list | Sample | datetime):
        return text_of(value)
    return f"%!{verb}({_go_type(value)}={text_of(value)})"


def _go_type(value: Any) -> str:
    names = ((bool, "bool"), (int, "int"), (float, "float64"), (str, "string"), (Mapping, "map[string]string"))
    return next((name for kind, name in names if isinstance(value, kind)), type(value).__name__)


def print_text(*values: Any) -> str:
    """Go's ``fmt.Sprint``: a space between two operands when neither is a string."""
    out = ""
    for i, value in enumerate(values):
        if i and not isinstance(value, str) and not isinstance(values[i - 1], str):
            out += " "
        out += text_of(value)
    return out


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "humanize": humanize,
    "humanize1024": humanize1024,
    "humanizeDuration": humanize_duration,
    "humanizePercentage": humanize_percentage,
    "humanizeTimestamp": humanize_timestamp,
    "toTime": to_time,
    "title": title,
    "toUpper": lambda text: _string(text).upper(),
    "toLower": lambda text: _string(text).lower(),
    "reReplaceAll": re_replace_all,
    "match": match_text,
    "first": first,
    "value": lambda row: _sample(row).value,
    "label": lambda name, row: _sample(row).labels.get(_string(name), ""),
    "strvalue": lambda row: _sample(row).labels.get("__value__", ""),
    "sortByLabel": sort_by_label,
    "parseDuration": parse_duration,
    "stripPort": strip_port,
    "stripDomain": strip_domain,
    "printf": printf,
    "print": print_text,
    "println": lambda *values: " ".join(text_of(v) for v in values) + "\n",
    "eq": equal,
    "ne": _compare(lambda a, b: bool(a != b)),
    "lt": _compare(lambda a, b: bool(a < b)),
    "le": _compare(lambda a, b: bool(a <= b)),
    "gt": _compare(lambda a, b: not (a < b or a == b)),  # as Go has it, which matters for NaN
    "ge": _compare(lambda a, b: not a < b),
    "and": conjunction,
    "or": disjunction,
    "not": lambda value: not truth(value),
    "len": length,
    "index": index,
    "html": lambda *values: html.escape(print_text(*values)),
    "urlquery": lambda *values: quote_plus(print_text(*values)),
}


def call(name: str, functions: Mapping[str, Callable[..., Any]], arguments: Sequence[Any]) -> Any:
    """Raises :class:`TemplateError` for wrong arguments."""
    try:
        return functions[name](*arguments)
    except (TypeError, IndexError, AttributeError, OverflowError):
        raise TemplateError(f"error calling {name}: wrong number or type of arguments") from None
