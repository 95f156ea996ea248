"""What the guides tell works as it stands there."""

import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aiops.core.plugins import load
from aiops.core.ports import PluginContext
from aiops.settings import load_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def thermometer():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"21.5")

        def log_message(self, *_):
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/temperature"
    server.shutdown()
    thread.join()
    server.server_close()


def blocks(file: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / file).read_text(encoding="utf-8"), re.DOTALL)


def test_the_connector_of_the_guide_polls(thermometer):
    names: dict = {"__name__": "room"}
    exec(compile(blocks("docs/add-a-connector.md", "python")[0], "room.py", "exec"), names)
    source = names["RoomSource"](names["RoomOptions"](url=thermometer), PluginContext("office", lambda: 1_000))
    try:
        block = source.poll("").samples
    finally:
        source.close()
    assert block.values.tolist() == [21.5]
    assert dict(block.labels[0]) == {"__name__": "room_temperature_celsius", "room": "office"}


@pytest.mark.parametrize("text", blocks("README.md", "yaml"))
def test_the_settings_of_the_readme_are_settings(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "aiops.yaml"
    file.write_text(text)
    settings = load_settings(file)
    kinds = {f"connectors.{kind}": entries for kind, entries in dict(settings.connectors).items()}
    for kind, entries in {**kinds, "connectors.notifiers": settings.receivers}.items():
        for entry in entries.values():
            assert entry.options.keys() <= set(load(kind, entry.plugin).Options.model_fields), entry.plugin
