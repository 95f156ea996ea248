"""``aiops detect``: judge a past time range, look at anomalies, mark them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops.cli.moments import moment_ms
from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import change, fetched
from aiops.core.errors import InvalidInput, PermanentError

if TYPE_CHECKING:
    from aiops.core.ports import MetricQuerier
    from aiops.incidents.backtest import Backtest
    from aiops.settings import Settings

app = group_of("Judge a past time range with --from and --to; list, show and mark anomalies.")
PATH = "/api/v1/anomalies"
Identifier = Annotated[str, typer.Argument(metavar="ID", help="Anomaly id; `aiops detect list` shows them.")]


@app.callback(invoke_without_command=True)
def detect(
    ctx: typer.Context,
    start: Annotated[str, typer.Option("--from", help="Begin: 2026-11-20, 2026-11-20T14:00Z, or 3d, 12h ago.")] = "",
    end: Annotated[str, typer.Option("--to", help="End, in the same forms; now by default.")] = "",
    query: Annotated[
        list[str] | None, typer.Option("--query", help="PromQL to judge instead of the watch list; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Report to write, a self-contained page.")] = Path(
        "detect-report.html"
    ),
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Judge a past range as the running detection would have, and write a report of what it finds.

    Metrics come from the configured Prometheus, else from the service. Nothing is written before the end.
    """
    if ctx.invoked_subcommand is not None:
        return
    if not start:
        raise InvalidInput("Give the time to judge.", hint="Such as --from 2d, or --from 2026-11-20 --to 2026-11-21.")
    settings = settings_of(config, data_dir, url, api_key)
    now = time.time_ns() // 1_000_000
    a, b = moment_ms(start, now), moment_ms(end, now) if end else now
    with _metrics(settings) as (metrics, where), _bar(quiet=json) as progress:
        found = _judge(settings, metrics, a, b, query or [], progress)
    if json:
        from aiops.cli.output import print_json
        from aiops.reports.backtest import as_json

        print_json(as_json(found))
        return
    from aiops.reports.backtest import html, summary

    _write(out, html(found, where, settings.agent.zone))
    print(summary(found, settings.agent.zone))
    print(f"Wrote {out}.")


def _judge(
    settings: Settings, metrics: MetricQuerier, start_ms: int, end_ms: int, queries: list[str], progress: Any
) -> Backtest:
    from aiops.cli.api_metrics import ApiMetrics
    from aiops.incidents.backtest import backtest
    from aiops.incidents.filling import DEFAULTS
    from aiops.incidents.watch import entries_for
    from aiops.promql.parse import inject_matchers
    from aiops.wiring.backtest import detector, watched

    chosen = settings.detection
    remote = not isinstance(metrics, ApiMetrics)
    entries = entries_for(queries, chosen) if queries else watched(settings, metrics, end_ms, remote=remote)
    progress(0.0, "loading the detectors")
    return backtest(
        metrics,
        entries,
        detector(settings),
        start_ms,
        end_ms,
        chosen,
        settings.incidents,
        progress,
        inject_matchers,
        levels=() if queries else DEFAULTS,
    )


@contextlib.contextmanager
def _metrics(settings: Settings) -> Iterator[tuple[MetricQuerier, str]]:
    from aiops.wiring.backtest import remote_metrics

    if not settings.url:
        with remote_metrics(settings) as remote:
            if remote is not None:
                yield remote, remote.name
                return
    from aiops.cli.api_metrics import ApiMetrics
    from aiops.cli.client import connect

    with connect(settings) as api:
        yield ApiMetrics(api), api.where


@contextlib.contextmanager
def _bar(*, quiet: bool) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    shown = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(TextColumn("detect"), *shown, console=Console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _write(file: Path, text: str) -> None:
    """Whole or not at all."""
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as part:
                part.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PermanentError(f"{file} cannot be written: {error.strerror}.") from error


@app.command("list")
def list_anomalies(
    days: Annotated[float, typer.Option(help="How far back.", min=0.01, max=400)] = 1.0,
    service: Annotated[str, typer.Option(help="Of one service.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Anomalies of the last days, the newest first."""
    from aiops.cli.output import console, number, table, when

    start = time.time_ns() // 1_000_000 - round(days * 86_400_000)
    found = fetched(settings_of(config, data_dir, url, api_key), PATH, json, start_ms=start, service=service)
    if found is None:
        return
    if not found["anomalies"]:
        print(f"No anomalies in {days:g} d.")
        return
    rows = (
        (
            a["id"],
            when(a["started_ms"]),
            "open" if a["ended_ms"] is None else f"{(a['ended_ms'] - a['started_ms']) / 60_000:.0f} min",
            a["service"],
            a["metric"],
            f"{number(a['value'], a['unit'])}, expected {number(a['expected'], a['unit'])}",
            ", ".join(m["judgement"] for m in a["marks"]),
        )
        for a in found["anomalies"]
    )
    console().print(table(("id", "since", "lasted", "service", "metric", "value", "marked"), rows))


@app.command()
def show(
    id: Identifier,
    png: Annotated[Path | None, typer.Option("--png", help="Write the picture to this file.")] = None,
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """One anomaly explained: the expected course, what fired, similar earlier windows."""
    from aiops.cli.client import connect
    from aiops.cli.output import console, print_json

    with connect(settings_of(config, data_dir, url, api_key)) as api:
        found = api.get(f"{PATH}/{id}")
        picture = api.get_bytes(f"{PATH}/{id}/chart.png") if png else b""
    if png:
        try:
            png.write_bytes(picture)
        except OSError as error:
            raise PermanentError(f"{png} cannot be written: {error.strerror}.") from error
    if json:
        print_json(found)
        return
    from aiops.cli.anomaly_view import explanation_text

    print(explanation_text(found, console().width))


@app.command()
def mark(
    id: Identifier,
    judgement: Annotated[str, typer.Argument(metavar="true|false", help="Was it one?")],
    note: Annotated[str, typer.Option(help="Why.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Say whether an anomaly was true. It moves the series' threshold and is kept as a label."""
    if judgement not in ("true", "false"):
        raise InvalidInput(f"'{judgement}' is neither true nor false.")
    settings = settings_of(config, data_dir, url, api_key)
    moved = "less easily" if judgement == "false" else "more easily"
    change(
        settings,
        f"{PATH}/{id}/marks",
        {"judgement": judgement, "note": note},
        json,
        lambda a: f"{a['service'] or 'This series'}: {a['metric']} marked {judgement}; it will alarm {moved}.",
    )


@app.command()
def missed(
    metric: Annotated[str, typer.Argument(help="Name of the watched metric, as `aiops detect list` shows it.")],
    start: Annotated[str, typer.Option("--from", help="When it began.")],
    end: Annotated[str, typer.Option("--to", help="When it ended.")],
    label: Annotated[list[str], typer.Option("--label", help="name=value of the series; repeatable.")],
    note: Annotated[str, typer.Option(help="What it was.")] = "",
    json: Json = False,
    url: Url = "",
    api_key: ApiKey = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Tell of an anomaly that was not raised; recall counts it."""
    now = time.time_ns() // 1_000_000
    pairs = dict(text.partition("=")[::2] for text in label)
    if not all(pairs) or not all("=" in text for text in label):
        raise InvalidInput("A --label is name=value.")
    body: dict[str, Any] = {
        "metric": metric,
        "labels": pairs,
        "start_ms": moment_ms(start, now),
        "end_ms": moment_ms(end, now),
        "note": note,
    }
    settings = settings_of(config, data_dir, url, api_key)
    change(settings, "/api/v1/missed-anomalies", body, json, lambda _: "Kept.")
