"""The two stores."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from aiops.settings.section import Section


class RetentionSettings(Section):
    """Days to keep of one signal; ``None`` means ``store.retention_days``, for costs for ever."""

    metrics: int | None = Field(None, ge=1)
    logs: int | None = Field(None, ge=1)
    traces: int | None = Field(None, ge=1)
    changes: int | None = Field(None, ge=1)
    costs: int | None = Field(None, ge=1)


class StoreSettings(Section):
    encryption_key: SecretStr = SecretStr("")
    """Any text; with it the telemetry's file, log, journal and what spills are encrypted."""
    encryption_key_file: Path | None = None
    """Holds the key instead."""
    backup_dir: Path | None = None
    """Administrators may have backups written below it over the network."""
    max_series: int = Field(2_000_000, ge=0)
    """Label sets that are known at one time; samples of further ones are refused. 0 means no limit."""
    memory_limit: str = "2GB"
    threads: int = 2
    cache_bytes: int = 384 * 1024 * 1024
    """Samples kept in memory: the newest as they came, and packed blocks that wide queries have read."""
    free_space_floor_bytes: int = 256 * 1024 * 1024
    retention_days: int = Field(30, ge=1)
    retention: RetentionSettings = RetentionSettings()
    max_bytes: int = Field(0, ge=0)
    """Above it the oldest day of metrics, logs, traces and changes goes, again and again; 0 means no limit."""
    rollup_5m_days: int = Field(0, ge=0)
    """Days that lowest, highest, sum, number and last of every 5 minutes are kept; 0 makes none."""
    rollup_1h_days: int = Field(400, ge=0)
    """The same of every hour."""
    future_limit_s: int = 600
    """Samples further ahead of the clock are refused."""
    created_zero_samples: bool = False
    """When a counter began, where remote write 2.0 tells it, becomes a sample of 0: its first increase counts."""

    def days_of(self, signal: str) -> int | None:
        """Days that ``signal`` is kept; ``None`` means for ever."""
        own: int | None = getattr(self.retention, signal)
        return own if own is not None or signal == "costs" else self.retention_days


class StateSettings(Section):
    url: str = Field("", repr=False)
    """SQLAlchemy URL; empty means SQLite in the data folder."""
