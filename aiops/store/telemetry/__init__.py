"""Telemetry in one DuckDB file: samples, logs, spans, changes, costs. The only package that imports duckdb."""
