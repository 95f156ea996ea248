"""``aiops query``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.core.errors import AiopsError, InvalidInput, QueryError

app = group_of()
_PLACE = re.compile(r'(?:invalid parameter "query": )?(\d+:\d+: )')


@app.command()
def query(
    expression: Annotated[str, typer.Argument(help="PromQL, in quotes.")],
    time: Annotated[str, typer.Option(help="When: Unix seconds or RFC 3339; now without it.")] = "",
    start: Annotated[str, typer.Option(help="Start of a range; needs --end and --step.")] = "",
    end: Annotated[str, typer.Option(help="End of a range.")] = "",
    step: Annotated[str, typer.Option(help="Step of a range, such as 1m.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Ask in PromQL, at one time or over a range; what is wrong with a query is shown under a caret.

    Example: aiops query 'sum by (job) (rate(http_requests_total[5m]))'
    """
    from aiops.cli.client import connect
    from aiops.cli.output import print_json
    from aiops.promql.parse import parse

    span = {"start": start, "end": end, "step": step}
    if any(span.values()) and (time or not all(span.values())):
        raise InvalidInput("A range needs --start, --end and --step, and no --time.")
    try:
        parse(expression, step_ms=1000, range_ms=1000)  # for its form; what step() is the service knows
        with connect(settings_of(config, data_dir, url, api_key)) as api:
            if start:
                answer = api.get("/api/v1/query_range", query=expression, **span)
            else:
                answer = api.get("/api/v1/query", query=expression, time=time)
    except (QueryError, InvalidInput) as error:
        raise _marked(expression, error) from error
    if json:
        print_json(answer["data"])
    else:
        for line in lines(answer["data"]):
            print(line)
    for note in (*answer.get("warnings", ()), *answer.get("infos", ())):
        print(f"aiops: {note}", file=sys.stderr)


def _marked(expression: str, error: AiopsError) -> AiopsError:
    """The error with the line of the query that it means and a caret under the place, where it names one."""
    from aiops.promql.places import caret

    found = _PLACE.match(error.message)
    drawn = caret(expression, error.message[found.start(1) :]) if found else ""
    if not drawn:
        return error
    hint = re.sub(r"Near `[^`]*`\.|At the end of the query\.", "", error.hint).strip()
    return QueryError(f"{error.message}\n{drawn}", hint=f"\n{hint}" if hint else "")


def lines(data: Mapping[str, Any]) -> Iterator[str]:
    """A result as ``promtool query`` prints it."""
    kind, result = data["resultType"], data["result"]
    if kind in ("scalar", "string"):
        yield f"{kind}: {result[1]} @[{result[0]}]" if kind == "scalar" else str(result[1])
        return
    for row in result:
        name = _series(row["metric"])
        if kind == "vector":
            moment, value = row["value"] if "value" in row else row["histogram"]
            yield f"{name} => {_shown(value)} @[{moment}]"
        else:
            yield f"{name} =>"
            points = sorted([*row.get("values", ()), *row.get("histograms", ())], key=lambda point: point[0])
            yield from (f"{_shown(value)} @[{moment}]" for moment, value in points)


def _shown(value: str | Mapping[str, Any]) -> str:
    """A number, or a native histogram as Prometheus writes one: its count, sum and buckets."""
    if isinstance(value, str):
        return value
    brackets = {0: "(]", 1: "[)", 2: "()", 3: "[]"}
    buckets = [
        f"{brackets[rule][0]}{low},{high}{brackets[rule][1]}:{count}"
        for rule, low, high, count in value.get("buckets", ())
    ]
    return "{" + ", ".join([f"count:{value['count']}", f"sum:{value['sum']}", *buckets]) + "}"


def _series(labels: Mapping[str, str]) -> str:
    from aiops.promql.plan import LEGACY_METRIC, label_text, quote

    own = dict(labels)
    name = own.pop("__name__", "")
    plain = bool(LEGACY_METRIC.match(name))
    inner = ", ".join(
        ([quote(name)] if name and not plain else []) + [f"{label_text(k)}={quote(v)}" for k, v in sorted(own.items())]
    )
    return f"{name if plain else ''}{{{inner}}}"
