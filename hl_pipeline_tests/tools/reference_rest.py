"""The pages about the REST API in docs/reference, from the application's OpenAPI. `write_reference` writes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import SecretStr

from api.app import create_app
from api.settings import ApiSettings
from hl_pipeline_tests.tools.markdown_tables import table

Schema = dict[str, Any]
# Each schema is on one page. If several tags use a schema, the first one in this order has it.
_TAGS = ("Coverage", "Fills", "TWAPs", "Statistics", "Leaderboards", "Wallets", "Service", "Dialect")
_INDEX = """[The REST API](../rest/index.md) explains conventions, with examples. `/openapi.json` of a running API has the
same as these pages.

Errors have one of these forms; [Errors](../rest/errors.md) says when.
"""


def rest_pages() -> dict[str, str]:
    """Return the text of each page by name."""
    openapi = create_app(ApiSettings(database_url=SecretStr("postgresql://host/hl"))).openapi()
    schemas: dict[str, Schema] = openapi["components"]["schemas"]
    operations: dict[str, Schema] = {path: methods["get"] for path, methods in openapi["paths"].items()}
    assert {tag for operation in operations.values() for tag in operation["tags"]} == set(_TAGS)
    errors = ["Problem", "Invalid", "WrongParameter", "UnknownCoin"]
    places = dict.fromkeys(errors, "rest")
    of_page: dict[str, list[str]] = {}
    for tag in _TAGS:
        own = [operation for operation in operations.values() if tag in operation["tags"]]
        new = [name for operation in own for name in _used(operation["responses"]["200"], schemas) if name not in places]
        of_page[tag] = list(dict.fromkeys(new))
        places |= dict.fromkeys(of_page[tag], _page(tag))
    assert set(places) == set(schemas), set(schemas) - set(places)
    pages = {
        _page(tag): "\n\n".join(
            [
                f"# REST: {tag}",
                *(_operation(path, own, places) for path, own in operations.items() if tag in own["tags"]),
                *(_schema(name, schemas[name], places) for name in of_page[tag]),
            ]
        )
        + "\n"
        for tag in _TAGS
    }
    rows = [
        (f"[`GET {path}`]({_page(own['tags'][0])}.md{_anchor(path)})", own["description"].split("\n\n")[0])
        for path, own in operations.items()
    ]
    index = f"# REST parameters\n\n{table(('path', 'returns'), rows)}\n\n{_INDEX}\n"
    return {**pages, "rest": index + "\n\n".join(_schema(name, schemas[name], places) for name in errors) + "\n"}


def _page(tag: str) -> str:
    return f"rest-{tag.lower()}"


def _anchor(path: str) -> str:
    """Of the heading `GET path`; that of `GET /` is not the same everywhere."""
    return "" if path == "/" else "#get-" + re.sub(r"[^\w-]", "", path.lower())


def _operation(path: str, operation: Schema, places: dict[str, str]) -> str:
    words = "\n\n".join(" ".join(part.split()) for part in operation["description"].split("\n\n"))
    parts = [f"## GET {path}\n\n{words}"]
    if parameters := operation.get("parameters"):
        parts.append(
            table(("parameter", "default", "type", "meaning"), [_parameter(parameter, places) for parameter in parameters])
        )
    content = operation["responses"]["200"].get("content", {})
    if "$ref" in (schema := content.get("application/json", {}).get("schema", {})):
        parts.append(f"Returns {_type(schema, places)}" + (", or a file." if "text/csv" in content else "."))
    statuses = ", ".join(sorted(status for status in operation["responses"] if status != "200"))
    return "\n\n".join([*parts, f"[Errors](../rest/errors.md): {statuses}."])


def _parameter(parameter: Schema, places: dict[str, str]) -> tuple[str, ...]:
    schema = parameter["schema"]
    default = "required" if parameter["required"] else f"`{_text(schema['default'])}`" if "default" in schema else ""
    limits = [f"{words} {schema[name]:,}" for name, words in (("minimum", "from"), ("maximum", "to")) if name in schema]
    return f"`{parameter['name']}`", default, " ".join([_type(schema, places), *limits]), parameter.get("description", "")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _schema(name: str, schema: Schema, places: dict[str, str]) -> str:
    rows = [(f"`{field}`", _type(own, places), own.get("description", "")) for field, own in schema.get("properties", {}).items()]
    return f"## {name}\n\n" + table(("field", "type", "meaning"), rows)


def _type(schema: Schema, places: dict[str, str]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}]({places[name]}.md#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(option, places) for option in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), places)}"
    return str(schema.get("format", kind)) if kind == "string" else str(kind)


def _used(part: object, schemas: dict[str, Schema]) -> Iterator[str]:
    """Return the names of all schemas that a part of the OpenAPI refers to, directly or indirectly, outer ones first."""
    waiting, seen = [part], set[str]()
    while waiting:
        inner: list[object] = []
        for item in waiting:
            if isinstance(item, dict):
                name = str(item.get("$ref", "")).rpartition("/")[2]
                if name and name not in seen:
                    seen.add(name)
                    yield name
                    inner.append(schemas[name])
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        waiting = inner
