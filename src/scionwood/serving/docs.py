"""The documentation at /docs: one page from the OpenAPI document, without a script and without anything from elsewhere."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup, escape

STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --mark: #2a6f4e; }
@media (prefers-color-scheme: dark) { :root { --dim: #999; --mark: #7cc7a2; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.05rem; margin: 2.2rem 0 .3rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
h2 code { font-size: 1rem; } .verb { color: var(--mark); font-weight: 700; margin-right: .5rem; }
pre { background: #8881; padding: .7rem .9rem; overflow-x: auto; border-radius: 6px; font-size: .87rem; white-space: pre-wrap; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
td, th { text-align: left; vertical-align: top; padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); }
th, .dim { color: var(--dim); font-weight: 500; }
td:first-child, th:first-child { white-space: nowrap; width: 24%; } td:nth-child(2) { width: 36%; }
"""


def page(document: dict[str, Any], base_url: str, key_needed: bool) -> str:
    """The whole page as HTML. ``base_url`` is how this server was reached."""
    schemas = document.get("components", {}).get("schemas", {})
    parts = [Markup("<h1>{}</h1>").format(document["info"]["title"])]
    parts += [Markup("<p>{}</p>").format(p) for p in document["info"].get("description", "").split("\n\n")]
    parts.append(Markup('<p class="dim">For programs: <a href="/openapi.json">openapi.json</a></p>'))
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            parts += _operation(path, verb.upper(), operation, schemas, base_url, key_needed)
    title = escape(document["info"]["title"])
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f'<!doctype html><html lang="en">{head}' \
           f"<style>{STYLE}</style><body>{Markup().join(parts)}</body></html>"


def _operation(path: str, verb: str, operation: dict, schemas: dict, base_url: str, key_needed: bool) -> list[Markup]:
    heading = Markup('<h2 id="{}"><span class="verb">{}</span><code>{}</code></h2><p>{}</p>')
    out = [heading.format(path, verb, path, operation.get("summary", ""))]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body:
        out.append(_table("Request", body["schema"], schemas))
        command = f"curl {base_url}{path} -H 'Content-Type: application/json'"
        if key_needed:
            command += ' -H "Authorization: Bearer $SCION_API_KEY"'
        example = json.dumps(body.get("example", {}), ensure_ascii=False).replace("'", "'\\''")
        out.append(Markup("<pre>{}</pre>").format(f"{command} \\\n  -d '{example}'"))
    for parameter in operation.get("parameters", []):
        name, about = parameter["name"], parameter.get("description", "")
        out.append(Markup('<p><code>{}</code> <span class="dim">({})</span> {}</p>').format(name, parameter["in"], about))
    answer = operation.get("responses", {}).get("200", {}).get("content", {}).get("application/json", {}).get("schema")
    if answer:
        out.append(_table("Response", answer, schemas))
    refusals = [code for code in operation.get("responses", {}) if code >= "300"]
    out.append(Markup('<p class="dim">Errors: {}</p>').format(", ".join(refusals)))
    return out


def _table(title: str, schema: dict, schemas: dict) -> Markup:
    row = Markup("<tr><td><code>{}</code></td><td>{}</td><td>{}</td></tr>")
    rows = Markup().join(row.format(*cells) for cells in _rows(schema, schemas, ""))
    return Markup("<table><tr><th>{}</th><th></th><th></th></tr>{}</table>").format(title, rows)


def _rows(schema: dict, schemas: dict, inside: str, depth: int = 0) -> list[tuple[str, str, str]]:
    """(key, type, what about it) of every field, fields of fields below theirs."""
    schema = _resolved(schema, schemas)
    required, rows = schema.get("required", []), []
    for key, field in schema.get("properties", {}).items():
        inner = _resolved(field, schemas)
        rows.append((f"{inside}{key}", _kind(field, schemas), "; ".join(filter(None, ["required" if key in required else "",
                                                                                       field.get("description", "")]))))
        nested = inner.get("items", {}) if inner.get("type") == "array" else inner
        if depth < 2 and (nested.get("properties") or "$ref" in nested):
            rows += _rows(nested, schemas, f"{inside}{key}{'[]' if inner.get('type') == 'array' else ''}.", depth + 1)
    return rows


def _resolved(schema: dict, schemas: dict) -> dict:
    return schemas.get(schema["$ref"].rpartition("/")[2], {}) if "$ref" in schema else schema


def _kind(field: dict, schemas: dict) -> str:
    """A type in words."""
    field = _resolved(field, schemas)
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(f, schemas) for f in field["anyOf"]))
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), schemas)}"
    return " ".join(filter(None, [field.get("type", "any"), f"({field['format']})" if "format" in field else "",
                                  f"up to {field['maxLength']} characters" if "maxLength" in field else ""]))
