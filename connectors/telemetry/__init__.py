"""Sources of telemetry, one file per system."""
