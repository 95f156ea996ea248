"""From signals to one incident a fault: detection, correlation, root cause, lifecycle, delivery.

Alerts, anomalies, rules and cost overruns enter by one door (:class:`~aiops.incidents.lifecycle.IncidentService`),
join the incident that explains them, and leave as notifications written in the same transaction.
"""
