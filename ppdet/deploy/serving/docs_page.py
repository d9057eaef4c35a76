"""The page /docs: the OpenAPI document as plain HTML, without scripts, so that it needs no other server."""

from collections.abc import Sequence
from html import escape
from typing import Any

PAGE = """<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>{title}</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="page.css">
</head>
<body>
  <header>
    <h1>{title}</h1>
    <p>Version {version}. <a href="openapi.json">openapi.json</a> is the same for programs.</p>
  </header>
  <main class="docs">
    <p>{description} {token}</p>
{operations}
    <h2>Schemas</h2>
{schemas}
  </main>
</body>
</html>
"""


def docs_page(document: dict[str, Any]) -> bytes:
    """Write the HTML page of an OpenAPI document that `describe_paths` returned."""
    operations = [
        operation_html(method, path, operation, document)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method != "head"
    ]
    schemas = [
        f'<section class="card" id="{escape(name)}"><h3>{escape(name)}</h3>{schema_html(schema)}</section>'
        for name, schema in document["components"]["schemas"].items()
    ]
    info = document["info"]
    needs = any(operation["security"] for methods in document["paths"].values() for operation in methods.values())
    authorization = "Paths marked with “token” need the header <code>Authorization: Bearer TOKEN</code>."
    page = PAGE.format(
        title=escape(info["title"]),
        version=escape(info["version"]),
        description=escape(info["description"]),
        token=authorization if needs else "This server needs no token.",
        operations="\n".join(operations),
        schemas="\n".join(schemas),
    )
    return page.encode()


def operation_html(method: str, path: str, operation: dict[str, Any], document: dict[str, Any]) -> str:
    token = ' <span class="tag">token</span>' if operation["security"] else ""
    parts = [
        f"<h2><code>{method.upper()} {escape(path)}</code>{token}</h2>",
        f"<p>{escape(operation['summary'])}. {escape(operation.get('description', ''))}</p>",
    ]
    if "parameters" in operation:
        rows = [(one["name"], schema_html(one["schema"]), one["description"]) for one in operation["parameters"]]
        parts.append(table("Query", [(code(name), schema, escape(text)) for name, schema, text in rows]))
    if "requestBody" in operation:
        body = operation["requestBody"]["content"].items()
        parts.append(table("Body", [(code(kind), schema_html(content["schema"])) for kind, content in body]))
    answers = []
    for status, answer in operation["responses"].items():
        if "$ref" in answer:
            answer = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        kinds = "".join(
            f"<div>{code(kind)}{': ' + schema_html(content['schema']) if 'schema' in content else ''}</div>"
            for kind, content in answer["content"].items()
        )
        answers.append((code(status), escape(answer["description"]), kinds))
    parts.append(table("Answers", answers))
    return f'<section class="card">{"".join(parts)}</section>'


def table(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<h3>{title}</h3><div class="wide"><table>{lines}</table></div>'


def code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def schema_html(schema: dict[str, Any]) -> str:
    """A link to a named schema, a list of an object's properties, or words for a single value: then its description."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    text = escape(schema.get("description", ""))
    [single, *others] = [one for one in schema.get("anyOf", []) if one != {"type": "null"}] or [schema]
    if "properties" in single and not others:
        schema = single
        required = schema.get("required", [])
        rows = [
            (code(name) + ("" if name in required else " (optional)"), schema_html(one))
            for name, one in schema["properties"].items()
        ]
        return text + "<dl>" + "".join(f"<dt>{name}</dt><dd>{one}</dd>" for name, one in rows) + "</dl>"
    if "$ref" in schema.get("items", {}):
        kind = f"<em>list of</em> {schema_html(schema['items'])}"
    else:
        kind = f"<em>{escape(in_words(schema))}</em>"
    return f"{kind}: {text}" if text else kind


def in_words(schema: dict[str, Any]) -> str:
    """What a value may be, such as "number, at least 0, at most 1, default 0.5"."""
    if "anyOf" in schema:
        kinds = " or ".join(in_words(one) for one in schema["anyOf"] if one != {"type": "null"})
    elif "enum" in schema:
        kinds = " or ".join(map(str, schema["enum"]))
    elif schema.get("contentEncoding"):
        kinds = f"the bytes of a file in {schema['contentEncoding']}"
    elif "contentMediaType" in schema:
        kinds = "the bytes of a file"
    elif schema.get("type") == "array":
        size = schema.get("maxItems")
        kinds = f"list of {in_words(schema['items'])}" + (f", {size} of them" if size else "")
    else:
        kinds = schema.get("type", "any value")
    words = {
        "minimum": "at least {}",
        "maximum": "at most {}",
        "maxLength": "at most {} characters",
        "default": "default {}",
    }
    limits = [text.format(schema[key]) for key, text in words.items() if schema.get(key) is not None]
    return ", ".join([kinds, *limits])
