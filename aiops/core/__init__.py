"""Pure domain types and ports.

Every hand-over between folders is a type defined here. Importing this package loads NumPy and
pydantic at most: no torch, fastapi, langchain or duckdb.
"""
