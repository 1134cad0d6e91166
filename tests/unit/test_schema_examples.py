"""The schemas themselves, and examples that they accept or refuse: the official ones, ours and real configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from pyrunc.config.example import example
from pyrunc.config.load import load_json
from pyrunc.errors import Rejected
from pyrunc.validate import _schema
from pyrunc.validate._accept import accept
from pyrunc.validate.compile import ROOTS, bundle
from pyrunc.validate.explain import problems
from tests.support.payload import REPOSITORY
from tests.support.schema_judges import CONFIGS, OFFICIAL, needs_official, official_validator

#: Official examples whose official verdict is not ours.
OTHER_EXAMPLES = {
    "freebsd-vnet-disable.json": "settings for FreeBSD have no meaning here and are ignored like unknown properties",
}

# -- the schemas themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", ROOTS)
def test_a_schema_is_a_valid_schema_and_the_built_one_is_up_to_date(constant: str) -> None:
    schema = bundle(ROOTS[constant])
    Draft202012Validator.check_schema(schema)
    assert getattr(_schema, constant) == schema, "specs/ changed: build again"


def properties_of(schema: Any) -> list[tuple[str, Any]]:
    found = []
    if isinstance(schema, dict):
        found += (
            list(schema.get("properties", {}).items()) if isinstance(schema.get("properties"), dict) else []
        )
        found += [pair for value in schema.values() for pair in properties_of(value)]
    elif isinstance(schema, list):
        found += [pair for value in schema for pair in properties_of(value)]
    return found


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "specs").glob("*.schema.json")), ids=lambda path: path.name
)
def test_every_property_is_described(path: Path) -> None:
    for name, schema in properties_of(json.loads(path.read_text(encoding="utf-8"))):
        # `if` compares a property that is described elsewhere.
        assert "description" in schema or set(schema) <= {"const", "enum"}, name


# -- examples ----------------------------------------------------------------------------------------------


def official_examples(kind: str, verdict: str) -> list[Any]:
    folder = OFFICIAL / "test" / kind / verdict
    return [pytest.param(path, id=path.name) for path in sorted(folder.glob("*.json"))]


@needs_official
@pytest.mark.parametrize("path", official_examples("config", "good"))
def test_official_good_configs_are_good(path: Path) -> None:
    config = load_json(path.read_bytes(), path.name)
    assert accept(config), problems(config)
    assert problems(config) == []


@needs_official
@pytest.mark.parametrize("path", official_examples("config", "bad"))
def test_official_bad_configs_are_bad_or_their_verdict_has_a_reason(path: Path) -> None:
    try:
        config = load_json(path.read_bytes(), path.name)
    except Rejected:
        return
    assert accept(config) == (problems(config) == []) == (path.name in OTHER_EXAMPLES)


@needs_official
@pytest.mark.parametrize("verdict", ["good", "bad"])
@pytest.mark.parametrize("kind", ["state", "features"])
def test_official_state_and_features_examples(kind: str, verdict: str) -> None:
    schema = getattr(_schema, kind.upper())
    for parameters in official_examples(kind, verdict):
        path = parameters.values[0]
        try:
            value = load_json(path.read_bytes(), path.name)
        except Rejected:
            assert verdict == "bad"
            continue
        assert (problems(value, schema) == []) == (verdict == "good"), path.name


@needs_official
@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("cgroup_v2", [False, True])
def test_our_example_is_good(rootless: bool, cgroup_v2: bool) -> None:
    config = example(rootless, 1000, 1000, cgroup_v2)
    assert accept(config)
    assert problems(config) == []
    assert list(official_validator("config-schema.json").iter_errors(config)) == []


@pytest.mark.parametrize("name", CONFIGS)
def test_real_configs_are_good(name: str) -> None:
    assert problems(CONFIGS[name]) == []
    assert accept(CONFIGS[name])


@needs_official
def test_the_everything_config_names_every_official_property() -> None:
    """So that mutations reach every rule."""

    def names(schema: Any) -> set[str]:
        return {name for name, _ in properties_of(schema)}

    def used(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {name for below in value.values() for name in used(below)}
        return {name for below in value for name in used(below)} if isinstance(value, list) else set()

    wanted: set[str] = set()
    for file in ("config-schema.json", "config-linux.json", "defs.json", "defs-linux.json"):
        wanted |= names(json.loads((OFFICIAL / file).read_text(encoding="utf-8")))
    assert wanted <= used(CONFIGS["everything"])
