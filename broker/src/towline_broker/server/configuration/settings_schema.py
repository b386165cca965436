"""The JSON Schema of a file of settings."""

from typing import Any

from towline_broker.server.configuration.catalogue import ANY_NAME, all_settings
from towline_broker.server.configuration.marks import EFFECT, Place, effect
from towline_broker.server.configuration.settings import Settings
from towline_broker.server.configuration.settings_file import SCHEMA_KEY


def settings_schema() -> dict[str, Any]:
    """For editors. It knows each value, its bounds, and when a change of it takes effect; how
    values go together only the broker knows."""
    schema = Settings.model_json_schema()
    for section in schema["$defs"].values():
        section.pop("description", None)  # the setting that holds it has one
    _tidy(schema)
    for setting in all_settings():
        found = _at(schema, setting.place)
        found.pop("default", None)
        if setting.default is not None:
            found["default"] = setting.written(setting.default)
        if setting.live is not None:
            found[EFFECT] = effect(setting.live)
    schema["properties"] = {SCHEMA_KEY: {"type": "string"}, **schema["properties"]}
    return {
        SCHEMA_KEY: "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of towline-broker",
        **schema,
    }


def _tidy(section: Any) -> None:
    """Without what pydantic makes up, and what stands below in more detail."""
    for node in section.values() if isinstance(section, dict) else section:
        if isinstance(node, dict | list):
            _tidy(node)
    if isinstance(section, dict):
        if isinstance(section.get("title"), str):
            del section["title"]
        if isinstance(section.get("default"), dict):
            del section["default"]
        if isinstance(section.get("description"), str):
            section["description"] = " ".join(section["description"].split())


def _at(schema: dict[str, Any], place: Place) -> dict[str, Any]:
    node = schema
    for part in place:
        node = _section(schema, node)
        node = node["additionalProperties"] if part == ANY_NAME else node["properties"][part]
    return node


def _section(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """What is meant by a section that is described elsewhere, or that may be missing."""
    for choice in node.get("anyOf", ()):
        if choice.get("type") != "null":
            node = choice
    if "$ref" in node:
        found: dict[str, Any] = schema["$defs"][node["$ref"].rpartition("/")[2]]
        return found
    return node
