"""containerd's CRI plugin, as a kubelet speaks to it, with the `config.toml` and the RuntimeClass of the README."""

from __future__ import annotations

import contextlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from tests.engines import docs
from tests.engines.containerd import Containerd
from tests.engines.cri_messages import CONTAINER, MESSAGES, NODE, RUNNING
from tests.engines.engine import IMAGE, program
from tests.engines.grpc import Channel, Refused
from tests.engines.image import make_oci_archive
from tests.support.payload import Testimony
from tests.support.runtime import SYSTEMD, wait_for

#: Before and behind the lines of the README: what keeps this containerd to its own folder and network.
_FIRST = """\
root = "{folder}/root"
state = "{folder}/state"
"""
_LAST = """\
  Root = "{folder}/runc"
  SystemdCgroup = {systemd}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{folder}/cni"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"

[grpc]
  address = "{folder}/containerd.sock"

[ttrpc]
  address = "{folder}/containerd.sock.ttrpc"
"""

#: The image of a pod's first container, which only waits.
_PAUSE = "localhost/pyrunc-test-pause:1"


class Cri(Containerd):
    """containerd with its CRI plugin, in a network namespace of its own: the bridge of its pods is not the host's."""

    name = "cri"
    elsewhere = ("/var/lib/cni/results", "/var/lib/cni")
    container_id = re.compile(r"^[0-9a-f]{64}$")

    def __init__(self, runtime: Path, image: Path) -> None:
        super().__init__(runtime, image)
        self.container_cgroup = re.compile(r"/(cri-containerd-)?[0-9a-f]{64}(\.scope)?$")
        self.env["CONTAINERD_NAMESPACE"] = "k8s.io"
        self.handler = docs.runtime_class()["handler"]

    def start(self) -> None:
        """Start containerd, import the images."""
        words = {"folder": self.folder, "image": _PAUSE, "systemd": str(SYSTEMD).lower()}
        lines = docs.block("config.toml", self.runtime)
        config = [
            _FIRST.format(**words),
            lines.rstrip(),
            _LAST.format(**words),
            docs.blocks()["default.toml"],
        ]
        (self.folder / "config.toml").write_text("\n".join(config))
        self._write_network()
        own_network = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        command = [*own_network, program("containerd"), "--config", f"{self.folder}/config.toml"]
        self.start_daemon(command, "containerd.log")
        for name, words_of_image in ((IMAGE, ("sh",)), (_PAUSE, ("testify", "sleep"))):
            archive = make_oci_archive(self.image, name, self.folder / "image.tar", words_of_image)
            self.call("images", "import", str(archive)).ok()

    def _write_network(self) -> None:
        """A bridge and addresses for pods (CNI)."""
        ranges = [[{"subnet": "10.77.0.0/24"}]]
        addresses = {"type": "host-local", "dataDir": f"{self.folder}/addresses", "ranges": ranges}
        bridge = {"type": "bridge", "bridge": "pods0", "ipam": addresses}
        (self.folder / "cni").mkdir()
        known = {"cniVersion": "0.4.0", "name": "pyrunc-test", "plugins": [bridge]}
        (self.folder / "cni/pods.conflist").write_text(json.dumps(known))

    def answers(self) -> bool:
        """Whether the plugin serves its client: later than containerd serves its own."""
        if not super().answers():
            return False
        try:
            conditions = self.ask_cri("Status").status.conditions
        except Refused:  # the plugin is not initialized yet
            return False
        return all(condition.status for condition in conditions)

    # -- the interface -------------------------------------------------------------------------------------

    def ask_cri(self, method: str, **fields: Any) -> Any:
        """One call of the CRI's RuntimeService."""
        request = MESSAGES[f"{method}Request"](**fields).SerializeToString()
        with contextlib.closing(Channel(self.folder / "containerd.sock")) as channel:
            answer = channel.call(f"/runtime.v1.RuntimeService/{method}", request)
        return MESSAGES[f"{method}Response"].FromString(answer)

    def pod(self, namespaces: dict[str, int] | None = None, handler: str | None = None, **linux: Any) -> Pod:
        """A pod sandbox that runs, by the handler of the README's RuntimeClass, or another ("": none)."""
        name = self.new_name()
        namespaces = namespaces or {"pid": CONTAINER}
        security = {"namespace_options": namespaces, "seccomp": {}}
        config = {
            "metadata": {"name": name, "uid": name, "namespace": "default"},
            "hostname": "" if namespaces.get("network") == NODE else f"pod-{name}",
            "log_directory": f"{self.folder}/logs-{name}",
            "linux": {"cgroup_parent": self.cgroup_parent, "security_context": security, **linux},
        }
        made = self.ask_cri(
            "RunPodSandbox", config=config, runtime_handler=self.handler if handler is None else handler
        )
        return Pod(self, made.pod_sandbox_id, config)

    def remove_containers(self) -> None:
        """Stop and remove all pods."""
        for sandbox in self.ask_cri("ListPodSandbox").items:
            wait_for(partial(self._stopped, sandbox.id), say=f"the end of pod {sandbox.id}")
            self.ask_cri("RemovePodSandbox", pod_sandbox_id=sandbox.id)

    def _stopped(self, sandbox_id: str) -> bool:
        """Stop a pod. Its network may be busy going by itself, which is refused; the kubelet asks again, too."""
        try:
            self.ask_cri("StopPodSandbox", pod_sandbox_id=sandbox_id)
        except Refused:
            return False
        return True

    def state_directories(self) -> list[Path]:
        """`Root`, with containerd's namespace for Kubernetes."""
        return [self.folder / "runc" / "k8s.io"]


class Pod:
    """A pod sandbox."""

    def __init__(self, cri: Cri, id: str, config: dict[str, Any]) -> None:
        self.cri = cri
        self.id = id
        self.config = config

    def create(
        self, name: str, *words: str, security: dict[str, Any] | None = None, **more: Any
    ) -> PodContainer:
        """Create a container with this command. `security`: its LinuxContainerSecurityContext."""
        namespaces = self.config["linux"]["security_context"]["namespace_options"]
        linux = {
            "resources": more.pop("resources", {}),
            "security_context": {"namespace_options": namespaces, "seccomp": {}, **(security or {})},
        }
        config = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": words,
            "log_path": f"{name}.log",
            "linux": linux,
            **more,
        }
        made = self.cri.ask_cri(
            "CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self.config
        )
        return PodContainer(self, made.container_id, Path(self.config["log_directory"], f"{name}.log"))

    def run(self, name: str, *words: str, **how: Any) -> PodContainer:
        """Create and start a container."""
        container = self.create(name, *words, **how)
        container.start()
        return container

    def status(self) -> Any:
        """PodSandboxStatusResponse."""
        return self.cri.ask_cri("PodSandboxStatus", pod_sandbox_id=self.id, verbose=True)


class PodContainer:
    """A container of a pod."""

    def __init__(self, pod: Pod, id: str, log: Path) -> None:
        self.pod = pod
        self.id = id
        self.log = log

    def ask_cri(self, method: str, **fields: Any) -> Any:
        """A call about this container."""
        return self.pod.cri.ask_cri(method, container_id=self.id, **fields)

    def start(self) -> None:
        """Start it."""
        self.ask_cri("StartContainer")

    def status(self) -> Any:
        """Its ContainerStatus."""
        return self.ask_cri("ContainerStatus").status

    def ends(self) -> Any:
        """Wait for its end; gives its ContainerStatus."""
        wait_for(lambda: self.status().state != RUNNING, 10, "the end of the container")
        return self.status()

    @property
    def pid(self) -> int:
        """The pid of its first process, seen from the host."""
        info = {entry.key: entry.value for entry in self.ask_cri("ContainerStatus", verbose=True).info}
        return int(json.loads(info["info"])["pid"])

    @property
    def out(self) -> str:
        """What it has written so far: the log has time, stream and a tag before each line."""
        return "\n".join(line.split(" ", 3)[3] for line in self.log.read_text().splitlines())

    def says(self, text: str) -> None:
        """Wait until it has written this."""
        wait_for(lambda: text in self.out, 10, f"{text!r} in the container's log")

    @property
    def testimony(self) -> Testimony:
        """What testify answered."""
        return Testimony(self.out)
