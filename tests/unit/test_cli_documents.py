"""spec and features: what they write is valid by our schemas and by the official ones."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from pyrunc.cli import features, spec
from pyrunc.config.example import example
from pyrunc.errors import PyruncError
from pyrunc.linux.cgroups import resources
from pyrunc.linux.mounts.options import OPTIONS, parse
from pyrunc.validate import check
from pyrunc.validate._accept import accept
from pyrunc.validate.basics import version_major
from tests.support.payload import REPOSITORY

OFFICIAL = REPOSITORY.parent / "shared" / "reference" / "runtime-spec-schema"


def official(name: str) -> Draft4Validator:
    """The official schema `name`, with its neighbours at hand."""
    if not OFFICIAL.is_dir():
        pytest.skip("this host has no official schemas beside the repository (../shared)")
    found = [
        (path.name, DRAFT4.create_resource(json.loads(path.read_text()))) for path in OFFICIAL.glob("*.json")
    ]
    return Draft4Validator({"$ref": name}, registry=Registry().with_resources(found))


def enumeration(name: str) -> list[str]:
    words: list[str] = json.loads((OFFICIAL / "defs-linux.json").read_text())["definitions"][name]["enum"]
    return words


@pytest.mark.parametrize("rootless", [False, True])
def test_spec_writes_a_valid_configuration(tmp_path: Path, rootless: bool) -> None:
    spec.write(str(tmp_path), rootless)
    config = json.loads((tmp_path / "config.json").read_text())
    official("config-schema.json").validate(config)
    assert accept(config)
    linux = config["linux"]
    kinds = {entry["type"] for entry in linux["namespaces"]}
    if rootless:
        assert "user" in kinds and "network" not in kinds and "resources" not in linux
        assert linux["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        sys = next(mount for mount in config["mounts"] if mount["destination"] == "/sys")
        assert sys["options"][0] == "rbind" and sys["type"] == "none"
        words = [word for mount in config["mounts"] for word in mount.get("options", [])]
        assert not [word for word in words if word.startswith(("uid=", "gid="))]
    else:
        assert "user" not in kinds and "network" in kinds
        assert linux["resources"]["devices"] == [{"allow": False, "access": "rwm"}]


def test_spec_makes_a_cgroup_namespace_on_cgroup_v2_only() -> None:
    assert {"type": "cgroup"} in example(False, 0, 0, True)["linux"]["namespaces"]
    assert {"type": "cgroup"} not in example(False, 0, 0, False)["linux"]["namespaces"]


def test_spec_leaves_an_existing_file_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to(tmp_path / "target")
    with pytest.raises(PyruncError, match=r"^File config\.json exists\. Remove it first$"):
        spec.write(str(tmp_path), False)
    assert not (tmp_path / "target").exists()


def test_spec_honours_the_umask_and_names_what_fails(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        spec.write(str(tmp_path), False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) == 0o640
    with pytest.raises(PyruncError, match=r"write /nowhere/config\.json: no such file or directory"):
        spec.write("/nowhere", False)


def test_features_are_valid_and_fixed() -> None:
    document: dict[str, Any] = json.loads(features.text())
    official("features-schema.json").validate(document)
    assert features.text() == features.text()
    assert features.text().startswith('{\n    "ociVersionMin"')
    assert (document["ociVersionMin"], document["ociVersionMax"]) == ("1.0.0", "1.3.0")


def no_null(value: Any) -> bool:
    """Whether nothing in there is null."""
    if isinstance(value, dict):
        value = list(value.values())
    return all(map(no_null, value)) if isinstance(value, list) else value is not None


def test_features_in_full() -> None:
    """Every property that features.md has is there, and none is null, which would mean that nobody knows."""
    document = features.document()
    linux = document["linux"]
    assert no_null(document)
    assert set(document["hooks"]) == set(schema_of_hooks())
    assert linux["cgroup"] == dict.fromkeys(("v1", "v2", "systemd", "systemdUser", "rdma"), True)
    assert linux["seccomp"]["enabled"]
    assert linux["seccomp"]["supportedFlags"] == linux["seccomp"]["knownFlags"]
    assert linux["apparmor"] == linux["selinux"] == linux["netDevices"] == {"enabled": True}
    assert linux["intelRdt"] == {"enabled": True, "schemata": True, "monitoring": True}
    assert linux["mountExtensions"] == {"idmap": {"enabled": True}}
    assert linux["memoryPolicy"]["flags"] == [
        "MPOL_F_NUMA_BALANCING",
        "MPOL_F_RELATIVE_NODES",
        "MPOL_F_STATIC_NODES",
    ]
    assert len(linux["memoryPolicy"]["modes"]) == 7
    assert {type(text) for text in document["annotations"].values()} == {str}
    assert all(document["annotations"]) and document["annotations"]["pyrunc.version"]


def schema_of_hooks() -> dict[str, Any]:
    """The kinds of hooks that our schema lets pass."""
    schema: Any = json.loads((REPOSITORY / "specs" / "config.schema.json").read_text())
    found: dict[str, Any] = schema["properties"]["hooks"]["properties"]
    return found


def test_features_tell_what_the_code_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """What carries a property out is gone, and so is its announcement."""

    def said(*path: str) -> Any:
        found: Any = features.document()
        for name in path:
            found = found[name]
        return found

    for room, switches in (
        ("apparmor", [("apparmor", "enabled")]),
        ("selinux", [("selinux", "enabled")]),
        ("net_devices", [("netDevices", "enabled")]),
        ("intel_rdt", [("intelRdt", "enabled"), ("intelRdt", "schemata"), ("intelRdt", "monitoring")]),
    ):
        rest = tuple(entry for entry in check.SELDOM if entry[0] != room)
        with monkeypatch.context() as without:
            without.setattr(check, "SELDOM", rest)
            assert not any(said("linux", *switch) for switch in switches), room
        assert all(said("linux", *switch) for switch in switches), room
    monkeypatch.setattr(check, "ROOMS", tuple(room for room in check.ROOMS if room != "seccomp"))
    assert not said("linux", "seccomp", "enabled")
    monkeypatch.setattr(resources, "CONTROLLERS", resources.CONTROLLERS - {"rdma"})
    assert not said("linux", "cgroup", "rdma")
    monkeypatch.setattr(features, "KINDS", ("cgroupfs", "disabled"))
    assert not said("linux", "cgroup", "systemd")
    monkeypatch.setattr(
        features, "OPTIONS", {word: kind for word, kind in OPTIONS.items() if "idmap" not in word}
    )
    assert not said("linux", "mountExtensions", "idmap", "enabled")
    monkeypatch.setattr(features, "FAMILIES", {})
    assert said("annotations", "org.opencontainers.runc.checkpoint.enabled") == "false"


def test_features_hold_nothing_else() -> None:
    """features.md: MUST NOT contain properties that the version `ociVersionMax` does not define."""
    official("features-schema.json")  # or skip
    linux = json.loads((OFFICIAL / "features-linux.json").read_text())["linux"]

    def undefined(value: Any, schema: Any, path: str) -> list[str]:
        if not isinstance(value, dict) or "properties" not in schema:
            return []
        found = [f"{path}.{name}" for name in value if name not in schema["properties"]]
        for name, below in schema["properties"].items():
            found += undefined(value.get(name), below, f"{path}.{name}")
        return found

    document = features.document()
    top = json.loads((OFFICIAL / "features-schema.json").read_text())
    assert [name for name in document if name not in top["properties"]] == []
    # What features-linux.md of 1.3.0 defines and its schema has not.
    of_the_text = ["linux.memoryPolicy", "linux.intelRdt.schemata", "linux.intelRdt.monitoring"]
    assert undefined(document["linux"], linux, "linux") == of_the_text
    assert undefined({"more": 1, "cgroup": {"v3": 1}}, linux, "linux") == ["linux.more", "linux.cgroup.v3"]


def test_features_are_recognised() -> None:
    """features.md: the runtime MUST recognise each element in config.json."""
    document = features.document()
    linux = document["linux"]
    filters, policy = linux["seccomp"], linux["memoryPolicy"]
    arguments = [{"index": 0, "value": 0, "op": word} for word in filters["operators"]]
    for version in (document["ociVersionMin"], document["ociVersionMax"]):
        config: Any = {
            "ociVersion": version,
            "root": {"path": "rootfs"},
            "process": {"cwd": "/", "args": ["x"], "capabilities": {"bounding": linux["capabilities"]}},
            "hooks": {kind: [{"path": "/x"}] for kind in document["hooks"]},
            "mounts": [{"destination": "/x", "type": "tmpfs", "options": document["mountOptions"]}],
            "linux": {
                "namespaces": [{"type": kind} for kind in linux["namespaces"]],
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "architectures": filters["archs"],
                    "flags": filters["knownFlags"],
                    "syscalls": [
                        {"names": ["keyctl"], "action": action, "args": arguments}
                        for action in filters["actions"]
                    ],
                },
            },
        }
        assert version_major(version) == "1" and accept(config)
    options = parse(document["mountOptions"])
    assert not options.data, "an option that is announced is none of a file system"
    for mode in policy["modes"]:
        config["linux"]["memoryPolicy"] = {"mode": mode, "nodes": "", "flags": policy["flags"]}
        assert accept(config), mode


def test_features_announce_what_the_tables_hold_and_nothing_refused() -> None:
    document = features.document()
    options = document["mountOptions"]
    assert options == sorted(options)
    assert {"rro", "rbind", "nosymfollow", "runbindable"} <= set(options)
    linux = document["linux"]
    assert len(linux["namespaces"]) == 8
    assert linux["capabilities"][0] == "CAP_CHOWN" and len(linux["capabilities"]) == 41
    seccomp = linux["seccomp"]
    assert {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"} <= set(seccomp["archs"])
    if OFFICIAL.is_dir():
        assert set(linux["namespaces"]) == set(enumeration("NamespaceType"))
        assert set(seccomp["actions"]) == set(enumeration("SeccompAction"))
        assert set(seccomp["operators"]) == set(enumeration("SeccompOperators"))
        assert set(seccomp["archs"]) == set(enumeration("SeccompArch"))
        assert set(seccomp["knownFlags"]) == set(enumeration("SeccompFlag"))
