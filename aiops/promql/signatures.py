"""The functions of PromQL as Prometheus 3 documents them: arguments, results, and which are experimental."""

from __future__ import annotations

from dataclasses import dataclass

from aiops.promql.plan import Kind

_KINDS = {"s": Kind.SCALAR, "t": Kind.STRING, "v": Kind.VECTOR, "m": Kind.MATRIX}


@dataclass(frozen=True, slots=True)
class Signature:
    """``args`` include the optional last one; it may occur up to ``repeats`` times, without end where that is -1."""

    name: str
    args: tuple[Kind, ...]
    result: Kind
    repeats: int = 0
    experimental: bool = False

    @property
    def optional(self) -> bool:
        return self.repeats != 0

    def kind_of(self, position: int) -> Kind | None:
        """What the argument at ``position`` must be; ``None`` where there is no such argument."""
        if position < len(self.args):
            return self.args[position]
        return self.args[-1] if self.optional else None


def _table(text: str, *, experimental: bool = False) -> dict[str, Signature]:
    """Lines of ``arguments>result: names``; ``?`` makes the last argument optional, ``*`` repeats it without end."""
    out = {}
    for line in text.strip().splitlines():
        spec, _, names = line.strip().partition(": ")
        args, result = spec.split(">")
        repeats = 0
        if args.endswith("*"):
            args, repeats = args[:-1], -1
        elif "?" in args:
            args, _, count = args.partition("?")
            repeats = int(count or 1)
        kinds = tuple(_KINDS[letter] for letter in args)
        out.update({n: Signature(n, kinds, _KINDS[result], repeats, experimental) for n in names.split()})
    return out


FUNCTIONS: dict[str, Signature] = {
    **_table("""
        v>v: abs absent acos acosh asin asinh atan atanh ceil cos cosh deg exp floor ln log10 log2 rad sgn sin sinh sqrt
        v>v: tan tanh sort sort_desc timestamp histogram_avg histogram_count histogram_stddev histogram_stdvar
        v>v: histogram_sum
        m>v: absent_over_time avg_over_time changes count_over_time delta deriv idelta increase irate last_over_time
        m>v: max_over_time min_over_time present_over_time rate resets stddev_over_time stdvar_over_time sum_over_time
        v?>v: day_of_month day_of_week day_of_year days_in_month hour minute month year
        vss>v: clamp
        vs>v: clamp_max clamp_min
        vs?>v: round
        ssv>v: histogram_fraction
        sv>v: histogram_quantile
        sm>v: quantile_over_time
        ms>v: predict_linear
        vttt*>v: label_join
        vtttt>v: label_replace
        v>s: scalar
        s>v: vector
        >s: pi time
    """),
    **_table(
        """
        m>v: first_over_time mad_over_time ts_of_first_over_time ts_of_last_over_time ts_of_max_over_time
        m>v: ts_of_min_over_time
        mss>v: double_exponential_smoothing
        vt*>v: sort_by_label sort_by_label_desc
        vts?9>v: histogram_quantiles
        vv?>v: info
        ss>s: max_of min_of
        >s: start end step range
        """,
        experimental=True,
    ),
}
EXPERIMENTAL_AGGREGATORS = frozenset({"limitk", "limit_ratio"})
RENAMED = {"holt_winters": "double_exponential_smoothing"}
"""Functions that Prometheus 3 knows by another name."""
