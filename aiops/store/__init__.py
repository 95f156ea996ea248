"""The two stores: telemetry (DuckDB) and state (SQLAlchemy)."""
