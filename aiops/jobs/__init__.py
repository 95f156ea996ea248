"""Background work: cron clock, queue with leases, worker threads."""
