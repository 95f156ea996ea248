"""Log templates: the constant text of log lines, with ``<*>`` where lines of one kind differ."""
