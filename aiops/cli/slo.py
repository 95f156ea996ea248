"""``aiops slo``."""

from __future__ import annotations

from aiops.cli.options import ApiKey, Config, DataDir, Json, Url, group_of, settings_of
from aiops.cli.replies import fetched

app = group_of("Error budgets of service-level objectives.")


@app.callback()
def group() -> None:
    """Error budgets of service-level objectives."""


@app.command("list")
def list_slos(
    json: Json = False, url: Url = "", api_key: ApiKey = "", data_dir: DataDir = None, config: Config = None
) -> None:
    """Objectives, what is left of each error budget and how fast it goes."""
    from aiops.cli.output import console, rows_of, table

    found = fetched(settings_of(config, data_dir, url, api_key), "/api/v1/slos", json)
    if found is None:
        return
    slos = rows_of(found, "slos")
    if not slos:
        print("No objectives are configured; see slos in the configuration.")
        return
    rows = []
    for slo in slos:
        burn = {b["window_s"]: b["rate"] for b in slo["burn"]}
        rows.append(
            (
                str(slo["name"]), str(slo["service"]), f"{slo['objective']:.6g} over {slo['period_days']:g} d",
                _share(slo["budget_left"]), _rate(burn.get(3600)), _rate(burn.get(21600)), str(slo["burning"]),
            )
        )  # fmt: skip
    columns = ("name", "service", "objective", "budget left", "burn 1 h", "burn 6 h", "burning")
    console().print(table(columns, rows))


def _share(value: float | None) -> str:
    return "no data" if value is None else f"{value:.1%}"


def _rate(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}x"
