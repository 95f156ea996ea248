"""One file per system; discovered by `aiops.core.plugins`."""
