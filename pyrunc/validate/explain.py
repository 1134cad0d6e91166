"""Say what is wrong with a rejected configuration, in words: jsonschema judges, this module translates.

Only imported for a configuration that the compiled check refused: jsonschema takes 90 ms to import.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from pyrunc.config.writer import quote
from pyrunc.validate._schema import CONFIG
from pyrunc.validate.report import PROBLEM_LIMIT, Problem, member

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema.exceptions import ValidationError

#: Draft 2020-12 counts 1.0 as an integer; the kernel, the specification's Go types and draft 4 do not.
Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)
NOUNS = {
    "object": "an object",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}
SHOWN = 60


def problems(config: object, schema: dict[str, object] | None = None) -> list[Problem]:
    """Every way in which `config` breaks `schema` (default: that of config.json), in the order of the file.

    At most `PROBLEM_LIMIT` of them, and then one that says that there are more. Empty if nothing is wrong.
    """
    found: dict[tuple[str, str], Problem] = {}
    for problem in _translate(Validator(CONFIG if schema is None else schema).iter_errors(config)):
        if len(found) == PROBLEM_LIMIT:
            return [*found.values(), Problem("", "and more that are not listed")]
        # A wrong value may break several rules that read the same in words.
        found.setdefault((problem.path, problem.text), problem)
    return list(found.values())


def _translate(errors: Iterator[ValidationError]) -> Iterator[Problem]:
    for error in errors:
        path = path_of(error)
        schema: dict[str, Any] = error.schema  # type: ignore[assignment]
        value: Any = error.instance
        if "propertyNames" in error.absolute_schema_path:
            yield Problem(member(path, value), f"the name must be {expected(schema)}")
        elif error.validator == "required":
            # jsonschema reports each missing name by itself, but the name only within its message.
            for name in (name for name in schema["required"] if error.message.startswith(repr(name) + " ")):
                meaning = _meaning(schema, name)
                yield Problem(member(path, name), "is missing" + (f" ({meaning})" if meaning else ""))
        elif error.validator == "dependentRequired":
            for name, others in schema["dependentRequired"].items():
                for other in (other for other in others if name in value and other not in value):
                    yield Problem(member(path, other), f"is missing although {name} is given")
        elif error.validator == "minItems":
            yield Problem(path, "must have at least one entry, is empty")
        else:
            yield Problem(path, f"must be {expected(schema)}, is {shown(value)}", _near(schema, value))


def path_of(error: ValidationError) -> str:
    """The JSON path of what `error` is about, such as `mounts[3].destination`."""
    path = ""
    for part in error.absolute_path:
        path = f"{path}[{part}]" if isinstance(part, int) else member(path, part)
    return path


def expected(schema: dict[str, Any]) -> str:
    """What `schema` wants, as a noun phrase."""
    if "title" in schema and schema["type"] == "string":
        return str(schema["title"])
    if "enum" in schema:
        return "one of " + ", ".join(quote(value) for value in schema["enum"])
    noun = NOUNS[schema["type"]]
    if "minimum" in schema:
        noun += f" between {schema['minimum']} and {schema['maximum']}"
    return noun


def shown(value: object) -> str:
    """`value` as a noun phrase, cut to a readable length."""
    if isinstance(value, str):
        text = quote(value if len(value) <= SHOWN else value[: SHOWN - 1] + "…")
        return f"the string {text}"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        text = str(value)
        return f"the number {text if len(text) <= SHOWN else text[:SHOWN] + '…'}"
    if isinstance(value, dict):
        return "an object"
    return "a list"


def _near(schema: dict[str, Any], value: object) -> str:
    """A remedy: the allowed word that `value` may have meant."""
    if "enum" not in schema or not isinstance(value, str):
        return ""
    near = get_close_matches(value[:SHOWN], schema["enum"], 1)
    return f"did you mean {quote(near[0])}?" if near else ""


def _meaning(schema: dict[str, Any], name: str) -> str:
    """What the missing property `name` is for."""
    property_schema = schema.get("properties", {}).get(name, {})
    return str(property_schema.get("description", ""))
