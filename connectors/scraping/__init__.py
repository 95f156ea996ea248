"""Support for sources that scrape as Prometheus does: targets, relabelling, the text formats."""
