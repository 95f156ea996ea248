"""The scraping source against loopback targets: labels, reports, staleness, limits, discovery."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiops.core.errors import ConfigError, PermanentError
from aiops.core.plugins import build
from aiops.core.ports import Collected, PluginContext, ScrapeTargets, TelemetrySource
from aiops.core.series import is_stale
from tests.loopback import Answer, Received, serving

NOW = 1_790_000_000_000
SECRET = "a-very-secret-token"
TEXT = {"content-type": "text/plain; version=0.0.4"}
OPENMETRICS = {"content-type": "application/openmetrics-text; version=1.0.0; charset=utf-8"}


class Farm:
    """A target that answers what it is told, and what it was asked."""

    def __init__(self) -> None:
        self.answer = Answer(body=b"m 1\n", headers=TEXT)
        self.asked: list[Received] = []
        self.url = ""

    def __call__(self, request: Received) -> Answer:
        self.asked.append(request)
        return self.answer

    def says(self, text: str, headers: dict[str, str] = TEXT, status: int = 200) -> None:
        self.answer = Answer(status, text.encode(), headers)

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")


@pytest.fixture
def farm() -> Iterator[Farm]:
    state = Farm()
    with serving(state) as state.url:
        yield state


@pytest.fixture
def source(farm: Farm) -> Iterator[Callable[..., TelemetrySource[Any]]]:
    made: list[TelemetrySource[Any]] = []
    clock = iter(range(NOW, NOW + 10**6, 1000))

    def make(**options: Any) -> TelemetrySource[Any]:
        options.setdefault("static_configs", [{"targets": [farm.address]}])
        built = build("connectors.telemetry", "scrape", options, PluginContext("apps", lambda: next(clock)))
        assert isinstance(built, TelemetrySource)
        made.append(built)
        return built

    yield make
    for built in made:
        built.close()


def shown(collected: Collected) -> dict[str, float | str]:
    """Values by ``name{labels}``; a marker of staleness is ``stale``."""
    block, found = collected.samples, {}
    for i, labels in enumerate(block.labels):
        own = dict(labels)
        name = own.pop("__name__")
        inner = ",".join(f"{k}={v}" for k, v in own.items() if k not in ("job", "instance"))
        _, values = block.series(i)
        found[f"{name}{{{inner}}}" if inner else name] = "stale" if is_stale(values)[-1] else float(values[-1])
    found.pop("scrape_duration_seconds", None)
    return found


def test_samples_and_the_report(farm: Farm, source: Any) -> None:
    farm.says('# TYPE a counter\na{x="1"} 3\nb 4 1234\n')
    got = source(job="web").poll("")
    assert shown(got) == {
        "a{x=1}": 3.0, "b": 4.0, "up": 1.0, "scrape_samples_scraped": 2.0,
        "scrape_samples_post_metric_relabeling": 2.0, "scrape_series_added": 1.0,
    }  # fmt: skip
    for labels in got.samples.labels:
        assert dict(labels)["job"] == "web"
        assert dict(labels)["instance"] == farm.address
    assert got.samples.ts.tolist().count(1234) == 1
    assert [(m.name, m.type) for m in got.metadata] == [("a", "counter")]
    accept = farm.asked[0].headers["accept"]
    assert accept.startswith("application/openmetrics-text")
    assert farm.asked[0].headers["accept-encoding"] == "gzip"


def test_what_vanishes_is_marked_stale(farm: Farm, source: Any) -> None:
    scraper = source()
    farm.says("a 1\nb 2\nc 3 55\n")
    scraper.poll("")
    farm.says("a 1\nd 2\n")
    assert shown(scraper.poll("")) == {
        "a": 1.0, "d": 2.0, "b": "stale", "up": 1.0, "scrape_samples_scraped": 2.0,
        "scrape_samples_post_metric_relabeling": 2.0, "scrape_series_added": 1.0,
    }, "a series with times of its own is not marked"  # fmt: skip
    farm.says("no", status=500)
    failed = {
        "up": 0.0, "scrape_samples_scraped": 0.0, "scrape_samples_post_metric_relabeling": 0.0,
        "scrape_series_added": 0.0,
    }  # fmt: skip
    assert shown(scraper.poll("")) == {"a": "stale", "d": "stale", **failed}
    assert shown(scraper.poll("")) == failed, "once"


def test_a_steady_target_is_read_the_same_way(farm: Farm, source: Any) -> None:
    scraper = source(metric_relabel_configs=[{"action": "drop", "source_labels": ["__name__"], "regex": "drop.*"}])
    for round_ in range(3):
        farm.says(f'a {round_}\ndropped 5\nb{{x="y"}} NaN\n')
        got = scraper.poll("")
        assert shown(got)["a"] == float(round_)
        assert shown(got)["scrape_samples_post_metric_relabeling"] == 2.0
        assert shown(got)["scrape_series_added"] == (2.0 if round_ == 0 else 0.0)
    farm.says('b{x="y"} 1\n')
    assert shown(scraper.poll(""))["a"] == "stale"


def test_labels_of_the_target_and_of_the_sample(farm: Farm, source: Any) -> None:
    farm.says('a{job="own",exported_job="x",zone="z"} 1\n')
    static = [{"targets": [farm.address], "labels": {"zone": "t", "__meta_x": "m"}}]
    labels = dict(source(job="j", static_configs=static).poll("").samples.labels[0])
    assert labels == {
        "__name__": "a", "job": "j", "exported_exported_job": "own", "exported_job": "x", "zone": "t",
        "exported_zone": "z", "instance": farm.address,
    }  # fmt: skip
    honest = dict(source(job="j", static_configs=static, honor_labels=True).poll("").samples.labels[0])
    assert (honest["job"], honest["zone"], honest["instance"]) == ("own", "z", farm.address)


def test_targets_are_relabelled(farm: Farm, source: Any) -> None:
    scraper = source(
        params={"module": ["http"], "x": ["1", "2"]},
        static_configs=[{"targets": ["example.com:9", "drop:1"], "labels": {"__param_own": "y", "team": "a"}}],
        relabel_configs=[
            {"source_labels": ["__address__"], "regex": "drop.*", "action": "drop"},
            {"source_labels": ["__address__"], "target_label": "__param_target"},
            {"source_labels": ["__param_target"], "target_label": "instance"},
            {"target_label": "__address__", "replacement": farm.address},
            {"target_label": "__metrics_path__", "replacement": "/probe"},
        ],
    )
    (labels, *_) = scraper.poll("").samples.labels
    assert dict(labels) == {"__name__": "m", "job": "apps", "team": "a", "instance": "example.com:9"}
    assert farm.asked[0].path == "/probe?module=http&own=y&target=example.com%3A9&x=1&x=2"
    assert isinstance(scraper, ScrapeTargets)
    (target,) = scraper.targets()
    assert (target.health, target.last_error, target.last_scrape_ms > 0) == ("up", "", True)
    assert dict(target.discovered)["__address__"] == "example.com:9"


def test_files_are_read_again_when_they_change(farm: Farm, source: Any, tmp_path: Path) -> None:
    file, other = tmp_path / "a.json", tmp_path / "b.yml"
    file.write_text(json.dumps([{"targets": [farm.address], "labels": {"from": "json"}}]))
    scraper = source(
        static_configs=[],
        file_sd_files=[str(tmp_path / "*.json"), str(tmp_path / "*.yml")],
        relabel_configs=[{"source_labels": ["__meta_filepath"], "regex": ".*/(.*)", "target_label": "file"}],
    )
    assert shown(scraper.poll(""))["m{file=a.json,from=json}"] == 1.0
    other.write_text(f"- targets: ['{farm.address}']\n")
    assert shown(scraper.poll(""))["m{file=b.yml}"] == 1.0
    file.write_text("{")
    assert shown(scraper.poll(""))["m{file=a.json,from=json}"] == 1.0, "a damaged file keeps what it said"
    file.unlink()
    gone = shown(scraper.poll(""))
    assert gone["m{file=a.json,from=json}"] == gone["up{file=a.json,from=json}"] == "stale"
    assert gone["m{file=b.yml}"] == 1.0
    assert "m{file=a.json,from=json}" not in shown(scraper.poll(""))


@pytest.mark.parametrize(
    ("options", "body", "reason"),
    [
        ({"sample_limit": 1}, "a 1\nb 2\n", "sample limit exceeded"),
        ({"body_size_limit_bytes": 10}, "a 1\n" * 100, "body size limit exceeded"),
        ({"label_limit": 3}, 'a{x="1"} 1\n', "label_limit exceeded"),
        ({"label_name_length_limit": 8}, 'a{long_name="1"} 1\n', "label_name_length_limit"),
        ({"label_value_length_limit": 30}, f'a{{x="{"y" * 31}"}} 1\n', "label_value_length_limit"),
        ({}, "a 1\nb\n", "line 2: no sample: b"),
        ({"metric_relabel_configs": [{"target_label": "__name__", "replacement": ""}]}, "a 1\n", "missing metric name"),
    ],
)
def test_a_scrape_over_a_limit_fails_whole(
    farm: Farm, source: Any, options: dict[str, Any], body: str, reason: str
) -> None:
    farm.says(body)
    scraper = source(**options)
    got = shown(scraper.poll(""))
    assert (got["up"], {k for k in got if k in "ab"}) == (0.0, set())
    assert reason in scraper.targets()[0].last_error


def test_a_limit_holds_for_what_is_kept(farm: Farm, source: Any) -> None:
    farm.says("a 1\nb 2\n")
    drop = [{"action": "drop", "source_labels": ["__name__"], "regex": "b"}]
    assert shown(source(sample_limit=1, metric_relabel_configs=drop).poll(""))["up"] == 1.0


def test_openmetrics_exemplars_and_gzip(farm: Farm, source: Any) -> None:
    body = 'a_total{x="1"} 3 # {trace_id="t"} 0.5 12.5\na_created{x="1"} 7\n# EOF\n'
    farm.answer = Answer(200, gzip.compress(body.encode()), {**OPENMETRICS, "content-encoding": "gzip"})
    got = source().poll("")
    (exemplar,) = got.exemplars
    assert dict(exemplar.series)["__name__"] == "a_total"
    assert (exemplar.labels, exemplar.value, exemplar.ts) == ((("trace_id", "t"),), 0.5, 12500)
    assert shown(got)["a_created{x=1}"] == 7.0


def test_times_can_be_ignored(farm: Farm, source: Any) -> None:
    farm.says("a 1 55\n")
    scraper = source(honor_timestamps=False)
    assert (scraper.poll("").samples.ts > 55).all()
    farm.says("b 1\n")
    assert shown(scraper.poll(""))["a"] == "stale"


def test_credentials(farm: Farm, source: Any, tmp_path: Path) -> None:
    source(username="u", password=SECRET).poll("")
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    source(bearer_token_file=str(file)).poll("")
    assert farm.asked[0].headers["authorization"].startswith("Basic ")
    assert farm.asked[1].headers["authorization"] == f"Bearer {SECRET}"
    scraper = source(bearer_token=SECRET)
    assert SECRET not in repr(scraper.options)
    missing = source(bearer_token_file=str(tmp_path / "none"))
    with pytest.raises(PermanentError, match="cannot be read"):
        missing.poll("")


def test_a_target_that_is_not_there_or_redirects(farm: Farm, source: Any) -> None:
    with serving(farm) as url:
        gone = url.removeprefix("http://")
    scraper = source(static_configs=[{"targets": [gone, farm.address]}])
    assert {t.health for t in (scraper.poll(""), scraper.targets())[1]} == {"up", "down"}
    farm.answer = Answer(302, b"", {"location": "/elsewhere"})
    stubborn = source(follow_redirects=False)
    assert shown(stubborn.poll(""))["up"] == 0.0
    assert "302" in stubborn.targets()[0].last_error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_s": 20}, "longer than interval_s"),
        ({"username": "u", "bearer_token": "t"}, "not both"),
        ({"relabel_configs": [{"action": "hashmod", "target_label": "x"}]}, "modulus"),
        ({"scheme": "ftp"}, "scheme"),
    ],
)
def test_options_that_cannot_work(source: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source(**options)


def test_too_many_targets_and_bad_addresses(source: Any) -> None:
    with pytest.raises(PermanentError, match="2 targets, more than 1"):
        source(target_limit=1, static_configs=[{"targets": ["a:1", "b:1"]}]).poll("")
    bad = source(static_configs=[{"targets": ["user@host:1", "a/b", "", "host:1/path"]}])
    assert bad.poll("").samples.sample_count == 0
