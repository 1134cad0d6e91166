"""Build step: turn `specs/` into `_accept.py` (a fast yes or no) and `_schema.py` (the same rules for jsonschema).

`python -m pyrunc.validate.compile [OUT]` writes the module `OUT` (default `_accept.py` beside this file), and
`_schema.py` next to it. `accept(config)` is straight-line code without imports: validating with jsonschema costs
90 ms of imports, more than the whole start of a container, so only a rejected configuration pays for it.

The generator knows the keywords that our schemas use and stops the build at any other, so that a rule added to
`specs/` can never be forgotten in the compiled check. tests/unit/test_schema_differential.py holds both to one verdict.
"""

from __future__ import annotations

import json
import pprint
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Schema = dict[str, Any]

HERE = Path(__file__).parent
SPECS = HERE.parent.parent / "specs"
ROOTS = {"CONFIG": "config.schema.json", "STATE": "state.schema.json", "FEATURES": "features.schema.json"}

#: Keywords that only speak to people.
PROSE = frozenset(("$schema", "$comment", "$defs", "title", "description"))
#: Keywords that carry rules, by the JSON type whose values they judge.
RULES = {
    "object": frozenset(
        ("properties", "required", "additionalProperties", "propertyNames", "dependentRequired")
    ),
    "array": frozenset(("items", "minItems")),
    "string": frozenset(("pattern", "minLength", "enum", "const")),
    "integer": frozenset(("minimum", "maximum")),
    "boolean": frozenset[str](),
}
GENERAL = frozenset(("$ref", "type", "if", "then", "else"))
WRONG_TYPE = {
    "object": "type({v}) is not dict",
    "array": "type({v}) is not list",
    "string": "type({v}) is not str",
    "integer": "type({v}) is not int",  # excludes true and false, whose type is bool, and 1.0
    "boolean": "{v} is not True and {v} is not False",
}
#: Each pattern of our schemas as an expression that is true where the pattern does not match: importing `re`
#: costs more than all of these. tests/unit/test_schema_compile.py compares them with the regular expressions.
MISMATCH = {
    r"^[^\u0000]*$": r'"\0" in {v}',
    r"^[^\u0000]+$": r'not {v} or "\0" in {v}',
    r"^/[^\u0000]*$": r'{v}[:1] != "/" or "\0" in {v}',
    r"^(?:/[^\u0000]*)?$(?!\n)": r'{v}[:1] not in ("", "/") or "\0" in {v}',
    r"^[^=\u0000]+=[^\u0000]*$": r'{v}.find("=") < 1 or "\0" in {v}',
    r"^[0-9, -]*$(?!\n)": '{v}.strip("0123456789, -")',
    r"^[rwm]*$(?!\n)": '{v}.strip("rwm")',
    r"^MB:[^\n\u0000]*$(?!\n)": r'{v}[:3] != "MB:" or "\n" in {v} or "\0" in {v}',
    r"^[1-9][0-9]*[KMG]B$(?!\n)": (
        '{v}[-2:] not in ("KB", "MB", "GB") or not {v}[:-2].isdigit() or not {v}.isascii() or {v}[0] == "0"'
    ),
}

HEAD = '''\
"""Generated from specs/ by pyrunc/validate/compile.py; do not edit."""
# mypy: ignore-errors
# ruff: noqa


def accept(config: object) -> bool:
    """Whether specs/config.schema.json allows `config` (as the loader returns it)."""
    try:
        return _accept(config)
    except TypeError:  # a value that is no string where strings are joined or looked up
        return False


_missing = object()
_join = "".join

'''


class UnknownKeyword(Exception):
    """A schema uses a keyword, or a combination, that the generator does not know."""


def bundle(root: str, specs: Path = SPECS) -> Schema:
    """The schema file `root` with everything it refers to in its own `$defs`, so that it stands alone."""
    files: dict[str, Schema] = {}
    defs: Schema = {}

    def read(name: str) -> Schema:
        if name not in files:
            files[name] = json.loads((specs / name).read_text(encoding="utf-8"))
        return files[name]

    def name_of(file: str, pointer: str) -> str:
        stem = file.removesuffix(".schema.json")
        return f"{stem}.{pointer.removeprefix('/$defs/')}" if pointer else stem

    def localise(node: Any, file: str) -> Any:
        if isinstance(node, list):
            return [localise(item, file) for item in node]
        if not isinstance(node, dict):
            return node
        result = {
            key: localise(value, file) for key, value in node.items() if key not in ("$defs", "$schema")
        }
        if isinstance(node.get("$ref"), str):
            target, _, pointer = node["$ref"].partition("#")
            target = target or file
            name = name_of(target, pointer)
            if name not in defs:
                defs[name] = None  # reserved while its own references are followed
                found = read(target)
                for key in pointer.split("/")[1:]:
                    found = found[key]
                defs[name] = localise(found, target)
            result["$ref"] = f"#/$defs/{name}"
        return result

    whole: Schema = {"$schema": read(root)["$schema"], **localise(read(root), root)}
    whole["$defs"] = dict(sorted(defs.items()))
    return whole


class Generator:
    """Writes the statements that return False as soon as a value breaks a rule."""

    def __init__(self, schema: Schema) -> None:
        self.defs: Schema = schema.get("$defs", {})
        self.schema = schema
        self.functions: list[list[str]] = []
        self.lines: list[str] = []

    def module(self) -> str:
        """The text of the module."""
        self._function("_accept", self.schema, None)
        return HEAD + "\n\n".join("\n".join(lines) + "\n" for lines in self.functions)

    def _function(self, name: str, schema: Schema, kind: str | None) -> None:
        outer, self.lines = self.lines, [f"def {name}(v0):", "    missing = _missing"]
        self._judge(schema, "v0", 1, kind)
        self.lines.append("    return True")
        self.functions.append(self.lines)
        self.lines = outer

    def _put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def _reject_if(self, depth: int, *conditions: str) -> None:
        if conditions:
            self._put(depth, f"if {' or '.join(conditions)}:")
            self._put(depth + 1, "return False")

    def resolve(self, schema: Schema) -> Schema:
        """The schema with its reference replaced by what it refers to."""
        while "$ref" in schema:
            extra = set(schema) - {"$ref"} - PROSE
            if extra:
                raise UnknownKeyword(f"beside $ref {schema['$ref']}: {sorted(extra)}")
            schema = self.defs[schema["$ref"].removeprefix("#/$defs/")]
        return schema

    def _judge(self, schema: Schema, v: str, depth: int, kind: str | None = None) -> None:
        """Statements for `v` at indentation `depth`; `kind` is its JSON type if that was checked before."""
        schema = self.resolve(schema)
        checked = kind is not None
        kind = schema.get("type", kind)
        if kind not in RULES:
            raise UnknownKeyword(f"type {kind!r} in {schema!r:.200}")
        unknown = set(schema) - PROSE - GENERAL - RULES[kind]
        if unknown:
            raise UnknownKeyword(f"{sorted(unknown)} for type {kind} in {schema!r:.200}")
        wrong_type = [] if checked else [WRONG_TYPE[kind].format(v=v)]
        getattr(self, "_" + kind)(schema, v, depth, wrong_type)
        if "if" in schema:
            self._conditional(schema, v, depth, kind)

    def _boolean(self, schema: Schema, v: str, depth: int, wrong: list[str]) -> None:
        self._reject_if(depth, *wrong)

    def _integer(self, schema: Schema, v: str, depth: int, wrong: list[str]) -> None:
        if "minimum" in schema and "maximum" in schema:
            wrong = [*wrong, f"not {schema['minimum']} <= {v} <= {schema['maximum']}"]
        elif "minimum" in schema or "maximum" in schema:
            raise UnknownKeyword(f"minimum without maximum, or the reverse: {schema!r:.200}")
        self._reject_if(depth, *wrong)

    def _string(self, schema: Schema, v: str, depth: int, wrong: list[str]) -> None:
        if "enum" in schema:
            if not all(isinstance(value, str) for value in schema["enum"]):
                raise UnknownKeyword(f"enum of other than strings: {schema!r:.200}")
            # No value of another type equals a string, and what cannot be hashed raises TypeError.
            wrong = [f"{v} not in {{{', '.join(map(repr, schema['enum']))}}}"]
        if "const" in schema:
            wrong = [f"{v} != {schema['const']!r}"]
        if "minLength" in schema:
            wrong = [*wrong, f"len({v}) < {schema['minLength']}"]
        if "pattern" in schema:
            if schema["pattern"] not in MISMATCH:
                raise UnknownKeyword(f"pattern {schema['pattern']!r}")
            wrong = [*wrong, MISMATCH[schema["pattern"]].format(v=v)]
        self._reject_if(depth, *wrong)

    def _array(self, schema: Schema, v: str, depth: int, wrong: list[str]) -> None:
        if "minItems" in schema:
            wrong = [*wrong, f"len({v}) < {schema['minItems']}"]
        items = self.resolve(schema["items"])
        pattern = items.get("pattern")
        if items["type"] == "string" and set(items) <= PROSE | {"type", "pattern"}:
            # Joining a list of strings in C is several times faster than looking at each.
            if pattern is None:
                self._reject_if(depth, *wrong)
                self._put(depth, f"_join({v})")
                return
            if pattern == r"^[^\u0000]*$":
                self._reject_if(depth, *wrong, f'"\\0" in _join({v})')
                return
        self._reject_if(depth, *wrong)
        inner = _below(v)
        self._put(depth, f"for {inner} in {v}:")
        self._judge(items, inner, depth + 1)

    def _object(self, schema: Schema, v: str, depth: int, wrong: list[str]) -> None:
        self._reject_if(depth, *wrong)
        inner = _below(v)
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        for name in required:
            if name not in properties:
                self._reject_if(depth, f"{name!r} not in {v}")
        for name, member in properties.items():
            self._put(depth, f"{inner} = {v}.get({name!r}, missing)")
            if name in required:
                self._judge(member, inner, depth)  # the type check refuses `missing` too
            else:
                self._put(depth, f"if {inner} is not missing:")
                self._judge(member, inner, depth + 1, None)
        for name, others in schema.get("dependentRequired", {}).items():
            for other in others:
                self._reject_if(depth, f"{name!r} in {v} and {other!r} not in {v}")
        if "additionalProperties" in schema or "propertyNames" in schema:
            if properties or "additionalProperties" not in schema or "propertyNames" not in schema:
                raise UnknownKeyword(f"additionalProperties beside other keywords: {schema!r:.200}")
            self._put(depth, f"for key, {inner} in {v}.items():")
            self._judge(schema["propertyNames"], "key", depth + 1, "string")
            self._judge(schema["additionalProperties"], inner, depth + 1)

    def _conditional(self, schema: Schema, v: str, depth: int, kind: str) -> None:
        compared = schema["if"].get("properties", {})
        if set(schema["if"]) != {"properties"} or any(
            set(rule) - {"const", "enum"} for rule in compared.values()
        ):
            raise UnknownKeyword(
                f"`if` may compare properties with const or enum only: {schema['if']!r:.200}"
            )
        condition = f"_condition_{len(self.functions)}"
        properties = {name: {"type": "string", **rule} for name, rule in compared.items()}
        self._function(condition, {"properties": properties}, kind)
        for branch, test in (("then", condition), ("else", f"not {condition}")):
            if branch in schema:
                self._put(depth, f"if {test}({v}):")
                self._judge(schema[branch], v, depth + 1, kind)


def _below(v: str) -> str:
    """The variable for a member of `v`; every level of the configuration has one."""
    return f"v{int(v[1:]) + 1}"


def main(arguments: list[str]) -> int:
    """Write both modules; the exit status is 0, and 2 for wrong usage."""
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print("usage: python -m pyrunc.validate.compile [OUT]", file=sys.stderr)
        return 2
    out = Path(arguments[0]) if arguments else HERE / "_accept.py"
    bundled = {constant: bundle(name) for constant, name in ROOTS.items()}
    out.write_text(Generator(bundled["CONFIG"]).module(), encoding="utf-8")
    text = '"""Generated from specs/ by pyrunc/validate/compile.py; do not edit."""\n# ruff: noqa\n\n'
    text += "from __future__ import annotations\n\n"
    for constant, schema in bundled.items():
        text += f"{constant}: dict[str, object] = {pprint.pformat(schema, width=110, sort_dicts=False)}\n"
    out.with_name("_schema.py").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
