"""The plan's JSON schema as a language model sees it."""

from __future__ import annotations

from typing import Any

from aiops.core.query import Plan

OUR_FIELDS = ("planner", "concept", "sure", "suggestions", "candidates", "intent")
"""Fields of a plan that the model does not set."""


def plan_schema() -> dict[str, Any]:
    """The plan's JSON schema as the model sees it: without our own fields, titles and defaults."""
    schema = Plan.model_json_schema()
    for name in OUR_FIELDS:
        schema["properties"].pop(name, None)
    for part in schema["$defs"].values():
        if "window" in part["properties"]:
            # LangChain inlines references; the window's own schema twelve times over would be half the request.
            part["properties"]["window"] = {"type": "object", "description": "{last_s} or {start_ms, end_ms}"}
    schema["$defs"].pop("Window")
    schema["$defs"]["Threshold"]["properties"].pop("default")
    slim: dict[str, Any] = _slim(schema)
    return {**slim, "title": "Plan", "description": "The look-ups that answer the question."}


_DROPPED = (
    "title", "default", "maxLength", "minLength", "exclusiveMinimum", "minimum", "maximum", "maxItems", "maxProperties",
)  # fmt: skip


def _slim(node: Any) -> Any:
    if isinstance(node, dict):
        properties = node.get("properties")
        out = {k: _slim(v) for k, v in node.items() if k not in _DROPPED and k != "properties" and v is not False}
        if isinstance(properties, dict):
            out["properties"] = {k: _slim(v) for k, v in properties.items()}
        if "description" in out and "properties" in out:
            out["description"] = out["description"].split("\n")[0]
        if "const" in out:
            out.pop("type", None)
        options = out.get("anyOf")
        if isinstance(options, list) and {"type": "null"} in options:
            rest = [o for o in options if o != {"type": "null"}]
            out = {**{k: v for k, v in out.items() if k != "anyOf"}, **(rest[0] if len(rest) == 1 else {"anyOf": rest})}
        if "discriminator" in out:
            out.pop("discriminator")
            out["anyOf"] = out.pop("oneOf")
        return out
    return [_slim(v) for v in node] if isinstance(node, list) else node
