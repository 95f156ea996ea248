"""Sources of costs, one file per system."""
