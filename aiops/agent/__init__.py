"""The assistant: a question becomes a typed plan, the plan is validated and run, the answer cites what was measured."""
