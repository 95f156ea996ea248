"""The demo's story: start, live chart, history, training, a fault, the incident, the webhook, answers, the report."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aiops.core.errors import AiopsError
from aiops.core.ports import system_clock
from aiops.demo.costs import shop_costs
from aiops.demo.fault import Fault, draw
from aiops.demo.probe import Probe, wait_until
from aiops.demo.receiver import Receiver
from aiops.demo.shop import BACKFILL_DAYS, LIVE_STEP_MS, ShopSource
from aiops.demo.watching import WINDOW, demo_settings, free_port, fresh_folder

if TYPE_CHECKING:
    from rich.console import Console

    from aiops.wiring import Service

FIRST_CHART_S = 5.0
INCIDENT_S = 60.0
WEBHOOK_S = 15.0
QUIET_WATCH_S = 60.0
BAR = 36
DAY_MS = 86_400_000
QUESTIONS = (
    "what is wrong with checkout?",
    "which hosts are low on disk?",
    "what did we spend this week, and on what?",
)
Show = Callable[[dict[str, Any], "Console"], None]


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    held: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Screens:
    """How answers and incidents, as the API gives them, are shown."""

    answer: Show
    incident: Show


def run(seed: int, kind: str, screens: Screens, *, once: bool, port: int, data_dir: Path | None) -> bool:
    """Tell the story; true when every part held. Without ``once`` it goes on serving until Ctrl-C.

    Raises:
        InvalidInput: an unknown kind of fault.
        ConfigError: a folder that cannot be used.
    """
    import psutil
    from rich.console import Console

    started = time.monotonic() - (time.time() - psutil.Process().create_time())
    fault = draw(seed, kind)
    story = Story(seed, fault, screens, Console(highlight=False, markup=False, emoji=False), started)
    return story.tell(fresh_folder(data_dir), free_port(port), once=once)


class Story:
    """One run. Every part ends in a check; a part that fails does not stop the ones that can go on.

    Args:
        started: monotonic time at which the process began; all times shown count from it.
    """

    def __init__(self, seed: int, fault: Fault | None, screens: Screens, out: Console, started: float) -> None:
        self._seed, self._fault, self._screens, self._out = seed, fault, screens, out
        self._started = started
        self._checks: list[Check] = []

    def tell(self, folder: Path, port: int, *, once: bool) -> bool:
        """All parts in order; stops the service at the end."""
        from aiops import wiring

        receiver = Receiver()
        receiver.start()
        service = wiring.build(demo_settings(folder, port, receiver.url, receiver.secret))
        log_file = _log_to(folder / "service.log")
        collector: Any = None
        probe: Probe | None = None
        try:
            service.start()
            probe = Probe(service.url)
            self._await_start(probe)
            self._first_chart(probe)
            shop = ShopSource(self._seed)
            self._backfill(service, shop)
            collector = self._go_live(service, shop)
            self._train(service)
            self._live_chart(probe)
            self._own_telemetry(probe)
            if self._fault is None:
                self._watch_quietly(probe, receiver)
            else:
                self._inject_and_wait(probe, shop, receiver)
            self._ask(probe)
            self._report(probe, folder)
            self._say_where(service)
            held = self._sum_up()
            if not once:
                self._say("Serving on; stop with Ctrl-C.")
                service.wait()
            return held
        except KeyboardInterrupt:
            self._say("Stopping.")
            return all(c.held for c in self._checks) and not once
        finally:
            if collector is not None:
                collector.stop()
            if probe is not None:
                probe.close()
            service.stop()
            receiver.stop()
            log_file.close()

    # ------------------------------------------------------------------ parts

    def _await_start(self, probe: Probe) -> None:
        up = wait_until(lambda: probe.answers("/healthz") or None, 20.0, 0.05)
        self._check("service answers", bool(up), f"at {probe.url}, {self._elapsed():.1f} s after the start")

    def _first_chart(self, probe: Probe) -> None:
        """Live figures of this machine as bars; they come from the store by PromQL over HTTP."""
        memory = '100 * (1 - node_memory_MemAvailable_bytes{simulated!="true"} / node_memory_MemTotal_bytes)'
        disk = '100 * (1 - node_filesystem_avail_bytes{simulated!="true"} / node_filesystem_size_bytes)'
        busy = '100 * (1 - avg(rate(node_cpu_seconds_total{mode="idle",simulated!="true"}[15s])))'
        with self._part("first chart"):
            known = wait_until(lambda: probe.instant(memory) or None, 10.0, 0.05)
            rows = [("memory used", value) for _, value in known or ()]
            rows += [(f"disk used {labels.get('mountpoint', '')}", v) for labels, v in probe.instant(disk)[:5]]
            self._say("This machine, live (measured, by PromQL from the store):")
            self._bars(rows)
            at = self._elapsed()
            held = bool(known) and at <= FIRST_CHART_S
            self._check("first chart of live metrics", held, f"{at:.1f} s after the start (<= {FIRST_CHART_S:.0f} s)")
            # A rate needs two scrapes, a second apart.
            self._bars([("CPU used", v) for _, v in wait_until(lambda: probe.instant(busy) or None, 4.0, 0.1) or ()])

    def _bars(self, shares: Iterable[tuple[str, float]]) -> None:
        """Percentages, each as a bar of its own."""
        for name, value in shares:
            filled = round(min(max(value, 0.0), 100.0) / 100 * BAR)
            self._out.print(f"  {name[:28]:<28} {'█' * filled}{'░' * (BAR - filled)} {value:5.1f} %")

    def _backfill(self, service: Service, shop: ShopSource) -> None:
        now = system_clock() // LIVE_STEP_MS * LIVE_STEP_MS
        samples, begun = 0, time.monotonic()
        store = service.services.store
        with self._part("backfill"), self._progress(f"{BACKFILL_DAYS} days of the simulated shop") as show:
            for i, collected in enumerate(shop.backfill(now - BACKFILL_DAYS * DAY_MS, now)):
                store.append(collected, key=f"demo-backfill-{i}")
                samples += collected.samples.sample_count
                show(collected.done, "")
            store.import_costs(shop_costs(self._seed, now))
        took = time.monotonic() - begun
        self._check(
            "simulated history in the store",
            samples > 0,
            f"{samples:,} samples of {shop.series_count} series, {BACKFILL_DAYS} days, in {took:.1f} s",
        )

    def _go_live(self, service: Service, shop: ShopSource) -> Any:
        from aiops.ingest.collector import Collector

        collector = Collector(service.services.store, {"shop": shop}, system_clock)
        collector.start()
        return collector

    def _train(self, service: Service) -> None:
        begun = time.monotonic()
        with self._part("training"), self._progress("training the detectors on the simulated history") as show:
            service.detection.train(system_clock(), show)
            took = time.monotonic() - begun
            self._check("detectors trained and registered", True, f"in {took:.1f} s")

    def _live_chart(self, probe: Probe) -> None:
        from rich.text import Text

        from aiops.reports import charts

        with self._part("chart"):
            count = 'http_server_request_duration_seconds_count{simulated="true"}'
            query = f"sum by (service_name) (rate({count}[{WINDOW}]))"
            end = time.time()
            block = probe.range(query, end - 1800, end, 30)
            self._say("Requests a second of the simulated shop, the last half hour:")
            self._out.print(Text(charts.terminal(block, unit="1/s", width=min(self._out.width - 2, 100))))

    def _own_telemetry(self, probe: Probe) -> None:
        """What the service measured of itself and put into its own store."""
        served = 'sum(http_server_request_duration_seconds_count{job="aiops"})'
        with self._part("own telemetry"):
            requests = wait_until(lambda: probe.instant(served) or None, 10.0)
            series = probe.instant('count({job="aiops"})')
            detail = (
                f"{series[0][1]:.0f} series, {requests[0][1]:.0f} requests" if requests and series else "nothing came"
            )
            self._check("the service's own metrics in its store", bool(requests), detail)

    def _inject_and_wait(self, probe: Probe, shop: ShopSource, receiver: Receiver) -> None:
        assert self._fault is not None
        known = {i["id"] for i in self._open(probe)}
        fault = shop.inject(self._fault, system_clock())
        begun = time.monotonic()
        self._say(f"Injected a simulated fault: {fault.title} at {fault.target}.")
        for line in fault.expected:
            self._out.print(f"  expected: {line.format(target=fault.target)}")
        found = None
        with self._part("incident"), self._out.status("waiting for the incident"):
            found = wait_until(lambda: self._named(probe, fault.truth, known), INCIDENT_S, 1.0)
        took = time.monotonic() - begun
        if found is None:
            others = [f"{i['id']} blames {i.get('service') or 'nothing'}" for i in self._open(probe)]
            detail = f"none within {INCIDENT_S:.0f} s" + (f"; open: {', '.join(others)}" if others else "")
            self._check(f"incident names {fault.truth}", False, detail)
        else:
            self._check(f"incident names {fault.truth}", True, f"{took:.0f} s after the fault (<= {INCIDENT_S:.0f} s)")
            self._screens.incident(found, self._out)
            evidence = bool(found.get("signals")) and bool(found.get("candidates"))
            self._check("incident shows its evidence", evidence, f"{len(found.get('signals') or ())} signals")
        self._webhook(receiver, found)

    def _webhook(self, receiver: Receiver, incident: dict[str, Any] | None) -> None:
        delivered = receiver.wait_for(str(incident["id"]), WEBHOOK_S) if incident else next(iter(receiver.all()), None)
        if delivered is None:
            refused = f", {receiver.refused} with a bad signature" if receiver.refused else ""
            self._check("alert webhook delivered", False, f"nothing arrived at {receiver.url}{refused}")
            return
        self._say(f"The receiver at {receiver.url} got a signed CloudEvent:")
        data = delivered.data
        for name in ("title", "service", "severity", "status", "simulated"):
            self._out.print(f"  {name:<10} {data.get(name)}", soft_wrap=True)
        for cause in list(data.get("candidates") or ())[:3]:
            self._out.print(f"  cause      {cause.get('service')} ({float(cause.get('share') or 0):.0%})")
        self._check("alert webhook delivered", True, f"{delivered.type} {delivered.id}, signature verified")

    def _watch_quietly(self, probe: Probe, receiver: Receiver) -> None:
        self._say(f"No fault is injected. Watching for {QUIET_WATCH_S:.0f} s; no incident may open.")
        opened: list[dict[str, Any]] | None = None
        with self._part("quiet watch"), self._out.status("watching"):
            opened = wait_until(lambda: self._open(probe) or None, QUIET_WATCH_S, 2.0)
        titles = "; ".join(str(i.get("title")) for i in opened or ())
        self._check("nothing opens without a fault", not opened, titles or f"no incident in {QUIET_WATCH_S:.0f} s")
        self._check("no alert without a fault", not receiver.all(), f"{len(receiver.all())} webhooks")

    def _ask(self, probe: Probe) -> None:
        for question in QUESTIONS:
            self._say(f"? {question}")
            with self._part(question):
                begun = time.monotonic()
                answer = probe.post("/api/v1/ask", {"question": question})
                took = time.monotonic() - begun
                self._screens.answer(answer, self._out)
                missing = list(missing_parts(answer))
                whole = f"in {took:.1f} s, with query, figures, window and chart"
                detail = f"lacks {', '.join(missing)}" if missing else whole
                self._check(f"answers '{question}'", not missing, detail)

    def _report(self, probe: Probe, folder: Path) -> None:
        with self._part("cost report"):
            file = folder / "cost-report.html"
            text = probe.text("/api/v1/reports/cost")
            file.write_text(text, encoding="utf-8")
            whole = "<html" in text.lower() and "USD" in text
            self._check("cost report written", whole, f"{file} ({len(text):,} characters)")

    def _say_where(self, service: Service) -> None:
        self._say(f"API       {service.url}/api/v1/  (OpenAPI: {service.url}/openapi.json)")
        self._say(f"Docs      {service.url}/docs")
        self._say(f"Grafana   add a Prometheus data source with the address {service.url}")
        self._say("Note      the shop with its fault and costs is simulated; this machine's figures are measured")

    def _sum_up(self) -> bool:
        self._say("What held:")
        for check in self._checks:
            self._out.print(f"  {'✓' if check.held else '✗'} {check.name}: {check.detail}", soft_wrap=True)
        held = all(check.held for check in self._checks)
        self._say("All parts held." if held else "Not all parts held.")
        return held

    # ------------------------------------------------------------------ pieces

    def _open(self, probe: Probe) -> list[dict[str, Any]]:
        found = probe.get("/api/v1/incidents", status="open")
        return list(found if isinstance(found, list) else found.get("incidents") or ())

    def _named(self, probe: Probe, truth: str, known: set[str]) -> dict[str, Any] | None:
        """A new open incident that blames the right service, in full."""
        for incident in self._open(probe):
            if incident["id"] in known:
                continue
            full = dict(probe.get(f"/api/v1/incidents/{incident['id']}"))
            # The causes are ranked on a thread of their own, a moment after it opens.
            causes = list(full.get("candidates") or ())
            if causes and causes[0]["service"] == truth:
                return full
        return None

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        """A part's failure becomes a check that did not hold, and the story goes on."""
        try:
            yield
        except AiopsError as error:
            self._check(name, False, str(error))

    @contextmanager
    def _progress(self, what: str) -> Iterator[Callable[[float, str], None]]:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._out) as bar:
            task = bar.add_task(what, total=1.0)
            yield lambda share, _: bar.update(task, completed=share)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _say(self, text: str) -> None:
        self._out.print(f"[{self._elapsed():6.1f} s] {text}", soft_wrap=True)

    def _check(self, name: str, held: bool, detail: str) -> None:
        self._checks.append(Check(name, held, detail))
        self._say(f"{'✓' if held else '✗'} {name}: {detail}")


def _log_to(file: Path) -> IO[str]:
    """Send the service's log lines to a file, so that the story stays readable."""
    stream = file.open("a", encoding="utf-8")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
            handler.setStream(stream)
    return stream


def missing_parts(answer: dict[str, Any]) -> Iterator[str]:
    """What an answer lacks of: text, query, figures, window, chart."""
    evidence = [e for e in answer.get("evidence") or () if isinstance(e, dict)]
    if not answer.get("text"):
        yield "text"
    if not any(e.get("query") for e in evidence):
        yield "a query"
    if not any(e.get("figures") for e in evidence):
        yield "figures"
    if not any(e.get("start_ms") and e.get("end_ms") for e in evidence):
        yield "a window"
    if not any(e.get("chart") for e in evidence):
        yield "a chart"
