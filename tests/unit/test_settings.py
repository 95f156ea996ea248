"""Settings: one place, misspelt keys named, environment over file, flags over both."""

import pytest

from aiops.core.errors import ConfigError
from aiops.settings import load_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SLACK_BOT_TOKEN", "AIOPS_URL"):
        monkeypatch.delenv(name, raising=False)


def write(tmp_path, text):
    path = tmp_path / "conf.yaml"
    path.write_text(text)
    return path


def test_nothing_is_needed_to_start():
    settings = load_settings()
    assert (settings.server.host, settings.server.port, settings.server.auth) == ("127.0.0.1", 8420, "none")
    assert settings.connectors.telemetry["host"].plugin == "host"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: {prot: 1}", "unknown key 'server.prot', did you mean 'port'"),
        ("detektion: {}", "unknown key 'detektion', did you mean 'detection'"),
        ("detection: {watch: [{query: up, stp: 3}]}", "did you mean 'step_s'"),
        ("server: {port: many}", "server.port: "),
        ("- a", "must hold a mapping"),
        ("a: [", "is not valid YAML"),
        ("agent: {zone: Mars/Olympus}", "not an IANA time zone"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load_settings(write(tmp_path, text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(tmp_path / "none.yaml")


def test_flags_win_over_environment_over_file(tmp_path, monkeypatch):
    path = write(tmp_path, "server: {host: 127.0.0.2, port: 1, auth: keys}")
    monkeypatch.setenv("AIOPS_SERVER__PORT", "2")
    monkeypatch.setenv("AIOPS_SERVER__HOST", "127.0.0.3")
    settings = load_settings(path, {"server": {"host": "127.0.0.4"}})
    assert (settings.server.host, settings.server.port, settings.server.auth) == ("127.0.0.4", 2, "keys")


def test_an_unknown_environment_name_is_refused(monkeypatch):
    monkeypatch.setenv("AIOPS_SERVR__PORT", "1")
    with pytest.raises(ConfigError, match="Did you mean AIOPS_SERVER"):
        load_settings()


def test_secrets_do_not_show(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    settings = load_settings()
    assert settings.openai_api_key.get_secret_value() == "sk-very-secret"
    assert "very-secret" not in repr(settings)


def test_no_repr_shows_a_secret(tmp_path):
    path = write(
        tmp_path,
        """
state: {url: "postgresql://aiops:hunter2@db/aiops"}
receivers:
  hook: {plugin: webhook, url: "https://x.test", secret: hunter2, headers: {Authorization: hunter2}, pages: true}
connectors: {telemetry: {prom: {plugin: prometheus, password: hunter2}}}
""",
    )
    settings = load_settings(path)
    assert settings.receivers["hook"].options["secret"] == "hunter2"
    for shown in (repr(settings), str(settings), repr(settings.receivers["hook"])):
        assert "hunter2" not in shown
        assert "secret='**********'" in shown
        assert "pages=True" in shown
