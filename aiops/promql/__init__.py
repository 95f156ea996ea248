"""PromQL: parse, plan and evaluate over the store. Semantics are those of Prometheus 3.x."""
