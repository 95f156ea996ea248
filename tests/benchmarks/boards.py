"""Adapters between the scoring boards and the product's public code; they decide nothing themselves."""

from __future__ import annotations
