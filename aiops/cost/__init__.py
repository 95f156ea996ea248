"""Cost: what was spent, what the month will come to, and days that depart from their own past.

Money is FOCUS ``EffectiveCost``; days are UTC, as FOCUS has them. The parts take arrays and know no store:
``calendar`` (day arithmetic), ``anomalies``, ``forecast``, ``budgets``; ``service`` joins them to a reader.
"""
