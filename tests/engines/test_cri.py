"""Pods through containerd's CRI plugin, as a kubelet makes them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.engines import cgroup
from tests.engines.cri import Cri
from tests.engines.cri_messages import CONTAINER, CREATED, EXITED, NODE, POD, READY, RUNNING
from tests.engines.engine import asking, forgets_what_ended_meanwhile
from tests.engines.grpc import Refused
from tests.support.payload import Testimony
from tests.support.runtime import wait_for

pytestmark = pytest.mark.xdist_group("cri")


def namespace(pid: int, name: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/{name}")


def test_pod_with_two_containers(cri: Cri) -> None:
    """They have network, IPC and host name in common, each its own files and processes."""
    pod = cri.pod()
    one = pod.run("one", *asking("namespaces", "uname", "pid"), "--", "sleep")
    two = pod.run("two", *asking("namespaces", "uname", "pid"), "--", "sleep")
    for container in (one, two):
        container.says('"ready"')
        assert container.status().state == RUNNING
    first, second = one.testimony["namespaces"], two.testimony["namespaces"]
    assert {name for name in first if first[name] == second[name]} >= {"net", "ipc", "uts"}
    assert not {name for name in ("mnt", "pid") if first[name] == second[name]}
    assert one.testimony["pid"] == two.testimony["pid"] == 1
    assert one.testimony["uname"]["hostname"] == two.testimony["uname"]["hostname"] == pod.config["hostname"]
    assert pod.status().status.state == READY
    assert pod.status().status.network.ip.startswith("10.77.0.")
    one.ask_cri("StopContainer", timeout=8)
    assert (one.status().state, two.status().state) == (EXITED, RUNNING)
    one.ask_cri("RemoveContainer")
    three = pod.run("three", *asking("namespaces"))
    three.ends()
    assert three.testimony["namespaces"]["net"] == second["net"]


def test_pod_with_one_pid_namespace(cri: Cri) -> None:
    """`shareProcessNamespace`: when a container ends, the others go on."""
    pod = cri.pod({"pid": POD})
    one = pod.run("one", "sh", "-c", "testify sleep & exec testify sleep")
    two = pod.run("two", "testify", "sleep")
    assert namespace(one.pid, "pid") == namespace(two.pid, "pid")
    one.ask_cri("StopContainer", timeout=0)
    assert one.ends().exit_code == 137
    assert two.status().state == RUNNING


def test_pod_in_the_network_of_its_node(cri: Cri) -> None:
    pod = cri.pod({"network": NODE, "pid": CONTAINER})
    one = pod.run("one", "testify", "sleep")
    assert cri.daemon
    assert namespace(one.pid, "net") == namespace(cri.daemon.process.pid, "net")
    assert namespace(one.pid, "net") != namespace(os.getpid(), "net")


@pytest.mark.parametrize("status", [0, 7, 255])
def test_container_ends(cri: Cri, status: int) -> None:
    one = cri.pod().run("one", "sh", "-c", f"echo good; echo bad >&2; exit {status}")
    left = one.ends()
    assert (left.state, left.exit_code) == (EXITED, status)
    assert left.reason == ("Error" if status else "Completed")
    wait_for(lambda: len(one.log.read_text().splitlines()) == 2, 10, "both lines of the log")
    entries = {tuple(line.split(" ", 3)[1:]) for line in one.log.read_text().splitlines()}
    assert entries == {("stdout", "F", "good"), ("stderr", "F", "bad")}


@pytest.mark.parametrize(
    ("word", "say"), [("no-such-program", "executable file not found"), ("/etc/passwd", "permission denied")]
)
def test_not_a_program(cri: Cri, word: str, say: str) -> None:
    """The runtime's sentence is what the kubelet is told; the pod can have other containers."""
    pod = cri.pod()
    one = pod.create("one", word)
    assert one.status().state == CREATED
    with pytest.raises(Refused, match=say) as refused:
        one.start()
    assert word in str(refused.value)
    left = one.status()
    assert (left.state, left.reason) == (EXITED, "StartError")
    assert pod.run("two", "true").ends().exit_code == 0


def test_security_context(cri: Cri, folder: Path) -> None:
    (folder / "file").write_text("from the host")
    security = {
        "run_as_user": {"value": 1000},
        "readonly_rootfs": True,
        "no_new_privs": True,
        "capabilities": {"drop_capabilities": ["ALL"]},
    }
    questions = (
        "ids",
        "mkdir /x",
        "nnp",
        "caps",
        "seccomp",
        "env",
        "cwd",
        "read /host/file",
        "mkdir /host/x",
    )
    one = cri.pod().run(
        "one",
        *asking(*questions),
        security=security,
        envs=[{"key": "FOO", "value": "bar"}],
        working_dir="/home",
        mounts=[{"container_path": "/host", "host_path": str(folder), "readonly": True}],
    )
    one.ends()
    answers = one.testimony
    assert answers["ids"]["uid"] == [1000, 1000, 1000]
    assert answers["mkdir /x"] == answers["mkdir /host/x"] == {"errno": "EROFS"}
    assert (answers["nnp"], answers["seccomp"]) == (1, 2)
    assert not answers["caps"]["bounding"]
    assert "FOO=bar" in answers["env"]
    assert (answers["cwd"], answers["read /host/file"]) == ("/home", "from the host")


def test_sysctl_of_a_pod(cri: Cri) -> None:
    """It is written when the pod's first container makes the namespace, and holds for all that join it."""
    pod = cri.pod(sysctls=[{"key": "net.ipv4.ip_unprivileged_port_start", "value": "77"}])
    question = "read /proc/sys/net/ipv4/ip_unprivileged_port_start"
    one = pod.run("one", *asking(question))
    one.ends()
    assert one.testimony[question].strip() == "77"


def test_stats(cri: Cri) -> None:
    one = cri.pod().run("one", "testify", "sleep", resources={"memory_limit_in_bytes": 64 << 20})
    one.says('"ready"')
    stats = one.ask_cri("ContainerStats").stats
    assert 0 < stats.memory.working_set_bytes.value < 64 << 20
    assert stats.cpu.usage_core_nano_seconds.value > 0


def test_out_of_memory(cri: Cri) -> None:
    """The kubelet reads the reason."""
    resources = {"memory_limit_in_bytes": 16 << 20}
    words = [
        "sh",
        "-c",
        "testify eat 64; sleep 1; exit 3",
    ]  # the event may be later than the end of who is killed
    left = cri.pod().run("one", *words, resources=resources).ends()
    assert (left.exit_code, left.reason) == (3, "OOMKilled")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_containerd(cri: Cri, number: signal.Signals) -> None:
    """Pods outlive it; a container that ends in between is told as such."""
    pod = cri.pod()
    lasting, ending = pod.run("lasting", "testify", "sleep"), pod.run("ending", "testify", "sleep")
    pids = lasting.pid, ending.pid
    cri.restart(number, lambda: os.kill(pids[1], signal.SIGKILL))
    assert ending.ends().exit_code == (255 if forgets_what_ended_meanwhile() else 137)
    assert (lasting.status().state, lasting.pid) == (RUNNING, pids[0])
    assert pod.status().status.state == READY
    assert pod.run("new", "true").ends().exit_code == 0


def test_state_is_the_runtimes(cri: Cri) -> None:
    """What containerd has made is known to `pyrunc list`, pods and containers alike."""
    pod = cri.pod()
    one = pod.run("one", "testify", "sleep")
    (root,) = cri.state_directories()
    listed = json.loads(cri.execute([str(cri.runtime), "--root", str(root), "list", "-f", "json"]).ok().out)
    found = {entry["id"]: entry for entry in listed}
    assert set(found) == {pod.id, one.id}
    annotations = found[one.id]["annotations"]
    assert annotations["io.kubernetes.cri.sandbox-id"] == pod.id


def test_update(cri: Cri) -> None:
    """The kubelet changes a container in place."""
    resources = {"memory_limit_in_bytes": 64 << 20, "cpu_period": 100000, "cpu_quota": 50000}
    one = cri.pod().run("one", "testify", "sleep", resources=resources)
    pid = one.pid
    assert (cgroup.memory(pid), cgroup.cpu_quota(pid)) == (64 << 20, 50000)
    one.ask_cri("UpdateContainerResources", linux={"memory_limit_in_bytes": 80 << 20, "cpu_quota": 25000})
    assert (cgroup.memory(pid), cgroup.cpu_quota(pid)) == (80 << 20, 25000)
    assert one.status().state == RUNNING


def test_exec(cri: Cri) -> None:
    """`ExecSync`, which is also what a probe is."""
    one = cri.pod().run("one", "testify", "sleep", security={"run_as_user": {"value": 1000}})
    done = one.ask_cri("ExecSync", cmd=["sh", "-c", "id -u; echo bad >&2; exit 4"])
    assert (done.exit_code, done.stdout, done.stderr) == (4, b"1000\n", b"bad\n")
    answers = Testimony(one.ask_cri("ExecSync", cmd=asking("namespaces")).stdout.decode())
    assert answers["namespaces"]["mnt"] == namespace(one.pid, "mnt")
    with pytest.raises(Refused, match="executable file not found"):
        one.ask_cri("ExecSync", cmd=["no-such-program"])


def test_exec_that_lasts_too_long(cri: Cri) -> None:
    """A probe with a timeout: what it has started is killed, the container goes on."""
    one = cri.pod().run("one", "testify", "sleep")
    with pytest.raises(Refused, match="timeout"):
        one.ask_cri("ExecSync", cmd=["sleep", "4321"], timeout=1)
    listed = one.ask_cri("ExecSync", cmd=["ps", "-o", "args"]).stdout.decode()
    assert "4321" not in listed and "testify sleep" in listed
