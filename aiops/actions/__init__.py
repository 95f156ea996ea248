"""Remediation: a typed catalogue, a policy that asks for a measured trigger, approval by a person, execution.

Text from telemetry can never create an action: a proposal names signals that an incident holds, on the very
target it would touch. Everything that happens to a proposal is in the audit trail.
"""
