"""Recording and alerting rules in Prometheus' format: files, templates, evaluation, and the loop that runs them."""
