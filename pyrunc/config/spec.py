"""The shapes of config.json and of the state, for type checkers (runtime-spec 1.3.0, config.md, config-linux.md).

Import this module under `TYPE_CHECKING` only: at run time a configuration is plain dicts and lists, and importing
`typing` costs 11 ms. What the values mean, and their ranges, stands in specs/*.schema.json.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

# -- config.json ---------------------------------------------------------------------------------------


class Root(TypedDict):
    path: str
    readonly: NotRequired[bool]


class IDMapping(TypedDict):
    containerID: int
    hostID: int
    size: int


class Mount(TypedDict):
    destination: str
    type: NotRequired[str]
    source: NotRequired[str]
    options: NotRequired[list[str]]
    uidMappings: NotRequired[list[IDMapping]]
    gidMappings: NotRequired[list[IDMapping]]


class ConsoleSize(TypedDict):
    height: int
    width: int


class User(TypedDict, total=False):
    """Absent ids are 0."""

    uid: int
    gid: int
    umask: int
    additionalGids: list[int]
    username: str


class Capabilities(TypedDict, total=False):
    bounding: list[str]
    effective: list[str]
    inheritable: list[str]
    permitted: list[str]
    ambient: list[str]


class Rlimit(TypedDict):
    type: str
    soft: int
    hard: int


class Scheduler(TypedDict):
    policy: str
    nice: NotRequired[int]
    priority: NotRequired[int]
    flags: NotRequired[list[str]]
    runtime: NotRequired[int]
    deadline: NotRequired[int]
    period: NotRequired[int]


IOPriority = TypedDict("IOPriority", {"class": str, "priority": int})


class ExecCPUAffinity(TypedDict, total=False):
    initial: str
    final: str


class Process(TypedDict):
    cwd: str
    args: list[str]
    terminal: NotRequired[bool]
    consoleSize: NotRequired[ConsoleSize]
    env: NotRequired[list[str]]
    commandLine: NotRequired[str]
    user: NotRequired[User]
    capabilities: NotRequired[Capabilities]
    rlimits: NotRequired[list[Rlimit]]
    noNewPrivileges: NotRequired[bool]
    oomScoreAdj: NotRequired[int]
    apparmorProfile: NotRequired[str]
    selinuxLabel: NotRequired[str]
    scheduler: NotRequired[Scheduler]
    ioPriority: NotRequired[IOPriority]
    execCPUAffinity: NotRequired[ExecCPUAffinity]


class Hook(TypedDict):
    path: str
    args: NotRequired[list[str]]
    env: NotRequired[list[str]]
    timeout: NotRequired[int]


class Hooks(TypedDict, total=False):
    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


class Config(TypedDict):
    ociVersion: str
    root: Root
    process: NotRequired[Process]
    mounts: NotRequired[list[Mount]]
    hostname: NotRequired[str]
    domainname: NotRequired[str]
    hooks: NotRequired[Hooks]
    annotations: NotRequired[dict[str, str]]
    linux: NotRequired[Linux]
    freebsd: NotRequired[dict[str, Any]]
    solaris: NotRequired[dict[str, Any]]
    vm: NotRequired[dict[str, Any]]
    windows: NotRequired[dict[str, Any]]
    zos: NotRequired[dict[str, Any]]


# -- linux ---------------------------------------------------------------------------------------------

NamespaceType = Literal["pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"]


class Namespace(TypedDict):
    type: NamespaceType
    path: NotRequired[str]


class TimeOffset(TypedDict, total=False):
    secs: int
    nanosecs: int


class TimeOffsets(TypedDict, total=False):
    boottime: TimeOffset
    monotonic: TimeOffset


class Device(TypedDict):
    type: Literal["c", "b", "u", "p"]
    path: str
    major: NotRequired[int]
    minor: NotRequired[int]
    fileMode: NotRequired[int]
    uid: NotRequired[int]
    gid: NotRequired[int]


class NetDevice(TypedDict, total=False):
    name: str


class DeviceRule(TypedDict):
    allow: bool
    type: NotRequired[Literal["a", "b", "c"]]
    major: NotRequired[int]
    minor: NotRequired[int]
    access: NotRequired[str]


class Memory(TypedDict, total=False):
    limit: int
    reservation: int
    swap: int
    kernel: int
    kernelTCP: int
    swappiness: int
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class CPU(TypedDict, total=False):
    shares: int
    quota: int
    period: int
    burst: int
    realtimeRuntime: int
    realtimePeriod: int
    cpus: str
    mems: str
    idle: int


class Pids(TypedDict):
    limit: int


class DeviceWeight(TypedDict):
    major: int
    minor: int
    weight: NotRequired[int]
    leafWeight: NotRequired[int]


class DeviceRate(TypedDict):
    major: int
    minor: int
    rate: NotRequired[int]


class BlockIO(TypedDict, total=False):
    weight: int
    leafWeight: int
    weightDevice: list[DeviceWeight]
    throttleReadBpsDevice: list[DeviceRate]
    throttleWriteBpsDevice: list[DeviceRate]
    throttleReadIOPSDevice: list[DeviceRate]
    throttleWriteIOPSDevice: list[DeviceRate]


class HugepageLimit(TypedDict):
    pageSize: str
    limit: int


class InterfacePriority(TypedDict):
    name: str
    priority: int


class Network(TypedDict, total=False):
    classID: int
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    hcaHandles: int
    hcaObjects: int


class Resources(TypedDict, total=False):
    unified: dict[str, str]
    devices: list[DeviceRule]
    memory: Memory
    cpu: CPU
    pids: Pids
    blockIO: BlockIO
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, Rdma]


class SyscallArg(TypedDict):
    index: int
    value: int
    valueTwo: NotRequired[int]
    op: str


class SyscallRule(TypedDict):
    names: list[str]
    action: str
    errnoRet: NotRequired[int]
    args: NotRequired[list[SyscallArg]]


class Seccomp(TypedDict):
    defaultAction: str
    defaultErrnoRet: NotRequired[int]
    flags: NotRequired[list[str]]
    listenerPath: NotRequired[str]
    listenerMetadata: NotRequired[str]
    architectures: NotRequired[list[str]]
    syscalls: NotRequired[list[SyscallRule]]


class IntelRdt(TypedDict, total=False):
    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool


class MemoryPolicy(TypedDict):
    mode: str
    nodes: NotRequired[str]
    flags: NotRequired[list[str]]


class Personality(TypedDict):
    domain: Literal["LINUX", "LINUX32"]
    flags: NotRequired[list[str]]


class Linux(TypedDict, total=False):
    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: TimeOffsets
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    cgroupsPath: str
    resources: Resources
    rootfsPropagation: str
    seccomp: Seccomp
    sysctl: dict[str, str]
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy
    personality: Personality


# -- state ---------------------------------------------------------------------------------------------


class State(TypedDict):
    """What `state` prints and hooks read on stdin (runtime.md "State")."""

    ociVersion: str
    id: str
    status: Literal["creating", "created", "running", "paused", "stopped"]
    bundle: str
    pid: NotRequired[int]
    annotations: NotRequired[dict[str, str]]
