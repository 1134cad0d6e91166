"""The image of the tests, made without a registry: a root file system, its tar archive, an OCI archive."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.bundle import make_rootfs

_NAMES = ("id", "ps", "tty", "hostname", "kill", "env", "pwd", "touch")


def make_archive(folder: Path) -> Path:
    """A root file system of busybox and testify, as tar archive `rootfs.tar` in `folder`."""
    rootfs = make_rootfs(folder / "rootfs")
    for name in _NAMES:
        if not (rootfs / "bin" / name).is_symlink():
            (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "home" / "ann").mkdir(exist_ok=True)
    path = folder / "rootfs.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(rootfs, arcname=".", filter=_owned_by_root)
    return path


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def make_oci_archive(rootfs: Path, name: str, target: Path, command: Sequence[str] = ("sh",)) -> Path:
    """An OCI image archive (image-spec, "Image Layout") of one uncompressed layer, known as `name`."""
    layer = rootfs.read_bytes()
    blobs: dict[str, bytes] = {}

    def put(raw: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(raw).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = raw
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(raw)}

    def put_json(value: dict[str, Any], kind: str) -> dict[str, Any]:
        return put(json.dumps(value).encode(), kind)

    prefix = "application/vnd.oci.image"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": list(command)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": put_json(config, f"{prefix}.config.v1+json"),
        "layers": [put(layer, f"{prefix}.layer.v1.tar")],
    }
    entry = put_json(manifest, f"{prefix}.manifest.v1+json")
    entry["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    blobs["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    with tarfile.open(target, "w") as archive:
        for path, raw in blobs.items():
            info = tarfile.TarInfo(path)
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return target
