"""Tools: read-only look-ups that a plan may name; one file per tool, each deriving from ``aiops.core.ports.Tool``."""
