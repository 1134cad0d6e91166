"""Validators for the official schemas of runtime-spec 1.3.0 and for ours, and what they find in a configuration."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from jsonschema import Draft4Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT4

from pyrunc.validate import _schema
from pyrunc.validate.explain import Validator, path_of
from tests.support.payload import REPOSITORY
from tests.support.schema_differences import GONE, Difference

OFFICIAL = REPOSITORY.parent / "shared" / "reference" / "runtime-spec-schema"
CONFIGS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((REPOSITORY / "tests" / "data" / "configs").glob("*.json"))
}
needs_official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="this host has no official schemas beside the repository (../shared)"
)


def official_validator(name: str) -> Any:
    """A validator for the official schema `name`."""

    def retrieve(uri: str) -> Any:
        path = OFFICIAL / uri
        if path.exists():
            return DRAFT4.create_resource(json.loads(path.read_text(encoding="utf-8")))
        # Other platforms' schemas are not part of the reference: all that matters here is that they are objects.
        platform = re.fullmatch(r"config-(\w+)\.json", uri)
        assert platform, uri
        return DRAFT4.create_resource({platform[1]: {"type": "object"}})

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Any:
        # In ECMA 262 `$` is the very end; in Python also before a last newline.
        if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), value):
            from jsonschema import ValidationError

            yield ValidationError(f"{value!r} does not match {wanted!r}")

    schema = json.loads((OFFICIAL / name).read_text(encoding="utf-8"))
    registry: Registry[Any] = Registry(retrieve=retrieve)  # type: ignore[call-arg]
    return extend(Draft4Validator, {"pattern": pattern})(schema, registry=registry)  # type: ignore[no-untyped-call]


def places(validator: Any, config: Any) -> set[tuple[str, str, Any]]:
    """Each broken rule as (path without indices, keyword, bad value as text)."""
    found = set()
    errors = list(validator.iter_errors(config))
    while errors:
        error = errors.pop()
        if error.validator == "anyOf":  # the official schema has one, with one branch
            errors += error.context
            continue
        path = re.sub(r"\[\d+\]", "[]", path_of(error))
        keyword = error.validator
        names: list[str] = [""]
        if path.endswith('[""]'):  # the official schema does not look at the value of an empty name
            path = path.removesuffix('[""]')
            keyword = "propertyNames"
        if "propertyNames" in error.absolute_schema_path:
            keyword = "propertyNames"
        elif keyword == "required":
            names = [name for name in error.validator_value if name not in error.instance]
        elif keyword == "dependentRequired":
            names = [other for others in error.validator_value.values() for other in others]
        if (
            isinstance(error.instance, str)
            and "\0" in error.instance
            and keyword in ("pattern", "propertyNames")
        ):
            keyword = "NUL"
        for name in names:
            found.add((f"{path}.{name}".strip(".") if name else path, keyword, repr(error.instance)[:80]))
    return found


def undeliberate(
    found: set[tuple[str, str, Any]], differences: list[Difference]
) -> set[tuple[str, str, Any]]:
    return {
        place
        for place in found
        if not any(place[1] == row.keyword and re.fullmatch(row.path, place[0]) for row in differences)
    }


OURS = Validator(_schema.CONFIG)


def changed(config: Any, at: tuple[str | int, ...], value: Any) -> Any:
    config = copy.deepcopy(config)
    node = config
    for key in at[:-1]:
        node = node[key]
    if value is GONE:
        del node[at[-1]]
    else:
        node[at[-1]] = value
    return config
