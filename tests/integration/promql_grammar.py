"""PromQL drawn from the grammar, kept where Prometheus 2.x and 3.x mean the same.

What 3.x does otherwise by design is left out by rule:

* Windows and lookback are open on the left in 3.x. Samples, steps and subquery points keep off their edges: at the
  top, times are 7 s past a quarter minute; inside a subquery they are on one; ranges follow from that (see ``length``).
* The name is dropped at the end of a query, if our engine's delayed name removal is compared with 2.x: nothing asks
  for ``__name__`` after a function, and a selector of several names is only used bare.
* Counters are extrapolated to zero unlike: ``rate`` and ``increase`` get counters that stay far from it.
* ``stddev`` of infinities, averages that overflow and date functions of what is no time changed: functions that round
  get the series of special values only where both agree.
* ``atan2`` keeps the metric name in 2.x: its operands have lost theirs.
* ``timestamp(x @ t offset o)`` ignores the offset, and ``predict_linear(x[r] @ t, s)`` moves its window with each step
  of a range query, in both versions and against their documentation: neither is asked.
* Two matches of one group are an error in 3.x even where a filter drops one of them, so that filters between vectors
  match on all labels or name the side that has many.
* A NaN as parameter of ``topk`` is refused by 3.x wherever it occurs, by 2.x only where there is something to pick.
* ``fill``, UTF-8 names, numbers as durations, experimental functions, ``holt_winters``: only one of the two has them.

``stddev`` and ``stdvar`` take gauges: of counters, which are large beside their differences, the order of the series
shows in the ninth digit. Functions with steps in them (comparisons, ``floor``, ``topk``) take only what both
compute exactly; values under ``topk`` are never equal, since which of two equal ones is left out is not defined.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

GAUGES = ("g", "h")
COUNTERS = ("c_total", "d_total")
PLAIN = (*GAUGES, *COUNTERS, "k")
LABELS = ("job", "zone", "instance")
EXACT_ELEMENTWISE = ("abs", "ceil", "floor", "sgn")
ELEMENTWISE = (
    "exp", "sqrt", "ln", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh",
    "acosh", "atanh", "rad", "deg",
)  # fmt: skip
DATES = ("minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year")
EXACT_OVER_TIME = ("sum", "min", "max", "count", "last", "present")
INEXACT_OVER_TIME = ("avg", "stddev", "stdvar")
SPECIAL_OVER_TIME = ("min", "max", "count", "last", "present")
EXACT_AGGREGATORS = ("sum", "min", "max", "count", "group")
ARITHMETIC = ("+", "-", "*", "/", "%", "^", "atan2")
COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")


@dataclass(frozen=True)
class Ask:
    """A query, and when: ms after the world's start, always 7 s past a quarter minute."""

    query: str
    start_ms: int
    end_ms: int
    step_ms: int


def either(*options: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(*options)


quarters = st.integers(1, 60)
numbers = st.sampled_from(["0", "1", "2", "-1", "0.5", "3", "-2.25", "100", "1e3", "0x10", "NaN", "Inf", "-Inf", "+2"])
finite = st.sampled_from(["1", "2", "-1", "0.5", "3", "-2.25", "100"])
words = st.sampled_from(["a", "b", "x", "y", "", "1", "x y", ".*", "a|b", "é", "nope", "[ab]", "(?i)A", ".", "x.*|1"])


@st.composite
def matchers(draw: st.DrawFn) -> str:
    found = draw(
        st.lists(
            st.tuples(st.sampled_from([*LABELS, "no"]), st.sampled_from(["=", "!=", "=~", "!~"]), words), max_size=2
        )
    )
    quote = draw(st.sampled_from(['"', "'", "`"]))
    inner = ",".join(f"{name}{op}{quote}{word}{quote}" for name, op, word in found)
    return f"{{{inner}{',' if inner and draw(st.booleans()) else ''}}}" if inner or draw(st.booleans()) else ""


@st.composite
def modifiers(draw: st.DrawFn, depth: int) -> str:
    """``@`` and ``offset``. Inside a subquery ``@`` is left out: what it names is not on a quarter minute."""
    offset = draw(st.sampled_from(["", "", "", " offset 1m", " offset 5m15s", " offset -45s", " offset 90s"]))
    at = (
        ""
        if depth
        else draw(st.sampled_from(["", "", "", "", " @ start()", " @ end()", " @ 1700000707", " @ 1700001307.0"]))
    )
    return at + offset if draw(st.booleans()) else offset + at


def length(seconds: int, odd: bool) -> str:
    """A range. ``odd``: 7 s past a quarter minute, so that its start is off the points of a subquery."""
    total = seconds + (7 if odd else 0)
    return f"{total // 60}m{total % 60}s" if total % 60 and total > 60 else f"{total}s"


@st.composite
def selector(draw: st.DrawFn, names: tuple[str, ...], depth: int) -> str:
    return draw(st.sampled_from(names)) + draw(matchers()) + draw(modifiers(depth))


@st.composite
def ranged(draw: st.DrawFn, names: tuple[str, ...], depth: int, *, at: bool = True) -> str:
    window = length(draw(quarters) * 15, odd=False)
    return f"{draw(st.sampled_from(names))}{draw(matchers())}[{window}]{draw(modifiers(depth if at else 1))}"


@st.composite
def stamped(draw: st.DrawFn, depth: int) -> str:
    """A selector with ``@`` or an offset, not both."""
    name = draw(st.sampled_from(PLAIN)) + draw(matchers())
    return name + draw(either(modifiers(1), st.sampled_from(["", " @ end()", " @ 1700000707"] if not depth else [""])))


@st.composite
def subquery(draw: st.DrawFn, inner: st.SearchStrategy[str], depth: int) -> str:
    """Points on whole multiples of its step. A window's start must not be one of them."""
    step = draw(st.sampled_from(["15s", "30s", "1m", "45s", ""]))
    window = length(draw(st.integers(2, 40)) * 15, odd=depth > 0)
    at = "" if depth else draw(st.sampled_from(["", "", " @ end()", " offset 1m"]))
    return f"({draw(inner)})[{window}:{step}]{at}"


def windows(draw: st.DrawFn, names: tuple[str, ...], depth: int) -> str:
    """A range vector that both sides hold exactly."""
    if depth < 2 and draw(st.integers(0, 3)) == 0:
        inner = exact(depth + 1, size=1) if names != COUNTERS else selector(COUNTERS, depth + 1)
        return draw(subquery(inner, depth))
    return draw(ranged(names, depth))


@st.composite
def exact(draw: st.DrawFn, depth: int = 0, size: int = 2) -> str:
    """An instant vector without rounding."""
    if size <= 0:
        return draw(selector(PLAIN, depth))
    inner = exact(depth, size - 1)
    kind = draw(st.integers(0, 9))
    match kind:
        case 0 | 1:
            return draw(selector(PLAIN, depth))
        case 2:
            return f"{draw(st.sampled_from(EXACT_ELEMENTWISE))}({draw(inner)})"
        case 3:
            return f"{draw(st.sampled_from(EXACT_OVER_TIME))}_over_time({windows(draw, PLAIN, depth)})"
        case 4:
            return f"{draw(st.sampled_from(['changes', 'resets', 'idelta']))}({windows(draw, PLAIN, depth)})"
        case 5:
            return draw(aggregation(EXACT_AGGREGATORS, inner))
        case 6:
            op = draw(st.sampled_from(["+", "-", "*"]))
            return draw(pair(op, inner, finite, size))
        case 7:
            return draw(comparison(inner, numbers, size))
        case 8:
            return draw(sets(inner))
        case _:
            return draw(
                either(
                    st.builds("-{}".format, selector(PLAIN, depth)),
                    st.builds("({})".format, inner),
                    st.builds("clamp({}, {}, {})".format, inner, finite, finite),
                    st.builds("clamp_min({}, {})".format, inner, numbers),
                    st.builds("clamp_max({}, {})".format, inner, numbers),
                    st.builds("round({}, {})".format, inner, st.sampled_from(["1", "0.5", "4", "-2"])),
                    st.builds("timestamp({})".format, stamped(depth)),
                    st.builds("absent({})".format, inner),
                    st.builds("sort({})".format, inner),
                    st.builds("sort_desc({})".format, inner),
                    st.builds("vector({})".format, scalar(depth)),
                    labelled(inner),
                )
            )


@st.composite
def labelled(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    destination = draw(st.sampled_from(["new", "job", "zone"]))
    source = draw(st.sampled_from([*LABELS, "no"]))
    if draw(st.booleans()):
        replacement = draw(st.sampled_from(["$1", "<$2$1>", "${1}x", "$name", "", "const", "$$", "$1x"]))
        regex = draw(st.sampled_from(["(.*)", "(.)(.*)", "(?P<name>[ab])", "", "x", "a|b", "(", "(a)|(b)"]))
        return f'label_replace({draw(inner)}, "{destination}", "{replacement}", "{source}", "{regex}")'
    others = draw(st.lists(st.sampled_from(LABELS), max_size=3))
    rest = "".join(f', "{name}"' for name in others)
    return f'label_join({draw(inner)}, "{destination}", "-"{rest})'


@st.composite
def grouping(draw: st.DrawFn) -> str:
    word = draw(st.sampled_from(["", "", "by", "without"]))
    names = draw(st.lists(st.sampled_from([*LABELS, "no"]), max_size=2, unique=True))
    return f" {word} ({', '.join(names)}) " if word else ""


@st.composite
def aggregation(draw: st.DrawFn, ops: tuple[str, ...], inner: st.SearchStrategy[str]) -> str:
    op, group, body = draw(st.sampled_from(ops)), draw(grouping()), draw(inner)
    return f"{op}{group}({body})" if draw(st.booleans()) else f"{op}({body}){group}"


@st.composite
def matching(draw: st.DrawFn, *, groups: bool = True, grouped: bool = False) -> str:
    word = draw(st.sampled_from(["", "on", "on", "ignoring"]))
    if not word:
        return " "
    names = draw(st.lists(st.sampled_from(LABELS), max_size=2, unique=True))
    text = f" {word} ({', '.join(names)})"
    if groups and (grouped or draw(st.booleans())):
        side = draw(st.sampled_from(["group_left", "group_right"]))
        spare = [name for name in (*LABELS, "no") if word == "ignoring" or name not in names]
        extra = draw(st.lists(st.sampled_from(spare), max_size=1))
        text += f" {side} ({', '.join(extra)})"
    return text + " "


def nameless(text: str, op: str) -> str:
    return f"abs({text})" if op == "atan2" else text


@st.composite
def pair(draw: st.DrawFn, op: str, inner: st.SearchStrategy[str], number: st.SearchStrategy[str], size: int) -> str:
    kind = draw(st.integers(0, 3))
    left = nameless(draw(inner), op)
    filters = op in COMPARISONS
    if kind == 0:
        return f"({left} {op} {draw(number)})"
    if kind == 1:
        return f"({draw(number)} {op} {left})"
    return f"({left} {op}{draw(matching(grouped=filters))}{nameless(draw(inner), op)})"


@st.composite
def comparison(draw: st.DrawFn, inner: st.SearchStrategy[str], number: st.SearchStrategy[str], size: int) -> str:
    op = draw(st.sampled_from(COMPARISONS)) + draw(st.sampled_from(["", " bool"]))
    return draw(pair(op, inner, number, size))


@st.composite
def sets(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    op = draw(st.sampled_from(["and", "or", "unless"]))
    return f"({draw(inner)} {op}{draw(matching(groups=False))}{draw(inner)})"


@st.composite
def scalar(draw: st.DrawFn, depth: int) -> str:
    return draw(
        either(
            numbers,
            st.just("time()"),
            st.just("pi()"),
            st.builds("scalar({})".format, selector(PLAIN, depth)),
            st.builds("scalar(sum({}))".format, selector(PLAIN, depth)),
            st.builds("({} {} {})".format, finite, st.sampled_from(ARITHMETIC), finite),
            st.builds("({} {} bool {})".format, numbers, st.sampled_from(COMPARISONS), numbers),
        )
    )


@st.composite
def special(draw: st.DrawFn, depth: int) -> str:
    """Zero of both signs, NaN, infinities and the largest and smallest numbers, where both versions agree."""
    inner = selector(("s",), depth)
    return draw(
        either(
            inner,
            st.builds("{}({})".format, st.sampled_from([*EXACT_ELEMENTWISE, *ELEMENTWISE]), inner),
            st.builds("{}_over_time({})".format, st.sampled_from(SPECIAL_OVER_TIME), ranged(("s",), depth)),
            st.builds("{}({})".format, st.sampled_from(["changes", "resets", "idelta"]), ranged(("s",), depth)),
            st.builds("quantile_over_time({}, {})".format, numbers, ranged(("s",), depth)),
            aggregation(("min", "max", "count", "group"), inner),
            st.builds('count_values("v", {})'.format, inner),
            pair(draw(st.sampled_from(ARITHMETIC)), inner, numbers, 1),
            comparison(inner, numbers, 1),
            st.builds("clamp({}, {}, {})".format, inner, numbers, numbers),
            st.builds("round({}, {})".format, inner, numbers),
            st.builds("sort({})".format, inner),
            st.builds("sort_desc({})".format, inner),
            st.builds("quantile({}, {})".format, numbers, inner),
        )
    )


@st.composite
def vector(draw: st.DrawFn, depth: int = 0, size: int = 3) -> str:
    """Any instant vector."""
    if size <= 0:
        return draw(exact(depth, 0))
    inner = vector(depth, size - 1)
    match draw(st.integers(0, 15)):
        case 0 | 1:
            return draw(exact(depth, size))
        case 2:
            return draw(special(depth))
        case 3:
            return f"{draw(st.sampled_from(ELEMENTWISE))}({draw(exact(depth, size - 1))})"
        case 4:
            return f"{draw(st.sampled_from(INEXACT_OVER_TIME))}_over_time({windows(draw, PLAIN, depth)})"
        case 5:
            name = draw(st.sampled_from(["rate", "increase", "irate"]))
            return f"{name}({windows(draw, COUNTERS, depth)})"
        case 6:
            name = draw(st.sampled_from(["delta", "deriv"]))
            return f"{name}({draw(ranged(PLAIN, depth))})"
        case 7:
            return f"predict_linear({draw(ranged(PLAIN, depth, at=False))}, {draw(scalar(depth))})"
        case 8:
            return f"quantile_over_time({draw(numbers)}, {windows(draw, PLAIN, depth)})"
        case 9:
            if draw(st.booleans()):
                return draw(aggregation(("stddev", "stdvar"), selector((*GAUGES, "k"), depth)))
            return draw(aggregation(("avg", "sum"), either(exact(depth, size - 1), rates(depth))))
        case 10:
            op = draw(st.sampled_from(["topk", "bottomk"]))
            count = draw(st.sampled_from(["0", "1", "2", "3", "-1", "100", "1.9", "scalar(count(vector(1)))"]))
            return f"{op}{draw(grouping())}({count}, {draw(selector(('g',), depth))})"
        case 11:
            return draw(
                either(
                    st.builds("quantile{}({}, {})".format, grouping(), numbers, exact(depth, size - 1)),
                    st.builds('count_values{}("v", {})'.format, grouping(), exact(depth, size - 1)),
                )
            )
        case 12:
            buckets = draw(
                either(
                    selector(("b_bucket",), depth),
                    st.builds("rate({})".format, ranged(("b_bucket",), depth)),
                    st.builds("sum by (le) (increase({}))".format, ranged(("b_bucket",), depth)),
                    st.builds("sum by (le, job) ({})".format, selector(("b_bucket",), depth)),
                    selector(PLAIN, depth),
                )
            )
            return f"histogram_quantile({draw(numbers)}, {buckets})"
        case 13:
            return draw(
                either(
                    st.builds("{}()".format, st.sampled_from(DATES)),
                    st.builds("{}(abs({}) * 86399)".format, st.sampled_from(DATES), selector(GAUGES, depth)),
                    st.builds("timestamp(+({}))".format, exact(depth, 1)),
                    st.builds("absent_over_time({})".format, ranged((*PLAIN, "nothing"), depth)),
                    st.builds("absent({})".format, selector((*PLAIN, "nothing"), depth)),
                    st.builds("absent(({}))".format, selector(("nothing",), depth)),
                    st.builds("absent_over_time(({}))".format, ranged(("nothing",), depth)),
                    st.builds("absent_over_time(({})[45s:15s])".format, selector(("nothing",), depth + 1)),
                )
            )
        case 14:
            return draw(pair(draw(st.sampled_from(ARITHMETIC)), inner, numbers, size))
        case _:
            return draw(either(sets(inner), labelled(inner), st.builds("-({})".format, inner)))


def rates(depth: int) -> st.SearchStrategy[str]:
    return st.builds("rate({})".format, ranged(COUNTERS, depth))


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    several = st.builds('{{__name__=~"{}"}}'.format, st.sampled_from(["g|h", "[gh]", "g|k", "c.*"]))
    query = draw(either(*[vector()] * 6, scalar(0), several, st.builds("count({})".format, several)))
    start = draw(st.integers(0, 150)) * 15_000 + 7_000
    step = draw(st.sampled_from([15, 30, 60, 75, 300])) * 1000
    return Ask(query, start, start + draw(st.integers(0, 20)) * step, step)
