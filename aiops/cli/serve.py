"""``aiops serve``."""

from __future__ import annotations

import logging
import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aiops.cli.options import Config, DataDir, group_of, settings_of
from aiops.core.errors import AiopsError, ConfigError

if TYPE_CHECKING:
    from types import FrameType

    from aiops.rules.engine import RuleEngine

log = logging.getLogger(__name__)
app = group_of()


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; default 127.0.0.1.")] = "",
    port: Annotated[int | None, typer.Option(help="Port to listen on; default 8420.", min=0, max=65535)] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Run the service until it is stopped (Ctrl-C or SIGTERM).

    With no configuration at all it starts an empty store on 127.0.0.1:8420, without auth, that accepts
    remote write, OTLP and PromQL.
    """
    flags: dict[str, Any] = {}
    if host:
        flags["host"] = host
    if port is not None:
        flags["port"] = port
    settings = settings_of(config, data_dir, sections={"server": flags} if flags else None)
    from aiops.cli.doctor import port_is_free

    if settings.server.port and not port_is_free(settings.server.host, settings.server.port):
        raise ConfigError(
            f"Port {settings.server.port} on {settings.server.host} is in use.", hint="Choose another with --port."
        )
    from aiops import wiring

    service = wiring.build(settings)
    stop_on_term()
    reload_on_hangup(service.rules)
    try:
        service.start()
        print(f"aiops listens on {service.url} (data in {settings.data_dir}); stop with Ctrl-C", flush=True)
        service.wait()
    except KeyboardInterrupt:
        pass
    finally:
        service.stop()


def stop_on_term() -> None:
    """Let SIGTERM end the command as Ctrl-C does, so that everything is stopped in order."""
    signal.signal(signal.SIGTERM, _interrupt)


def reload_on_hangup(rules: RuleEngine) -> None:
    """Let SIGHUP read the rule files again, as with Prometheus; what is wrong with them is logged."""
    if not hasattr(signal, "SIGHUP"):
        return

    def work() -> None:
        try:
            rules.reload()
        except AiopsError as error:
            log.error("The rules stay as they were: %s", error)

    def hangup(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        threading.Thread(target=work, name="rules-reload", daemon=True).start()

    signal.signal(signal.SIGHUP, hangup)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt
