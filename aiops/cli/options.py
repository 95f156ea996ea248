"""Options that several commands share, and the settings that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from aiops.settings import Settings

Url = Annotated[str, typer.Option("--url", help="Address of the service (or AIOPS_URL).", metavar="URL")]
ApiKey = Annotated[str, typer.Option("--api-key", help="API key (or AIOPS_API_KEY).", metavar="KEY")]
Config = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; default ./aiops.yaml, /etc/aiops/aiops.yaml.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Data folder of the service.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def group_of(help: str = "") -> typer.Typer:
    """An app for one command or a group of them; usage errors are plain lines."""
    return typer.Typer(
        help=help or None,
        no_args_is_help=bool(help),
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def settings_of(
    config: Path | None = None,
    data_dir: Path | None = None,
    url: str = "",
    api_key: str = "",
    sections: Mapping[str, Any] | None = None,
) -> Settings:
    """Settings with the given flags on top; ``sections`` are nested values. Raises ``ConfigError``."""
    from aiops.settings import load_settings

    flags: dict[str, Any] = {"data_dir": data_dir, "url": url, "api_key": api_key}
    overrides = {name: value for name, value in flags.items() if value} | dict(sections or {})
    return load_settings(config, overrides)
