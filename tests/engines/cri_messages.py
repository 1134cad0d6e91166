"""The messages of the Container Runtime Interface, as far as the tests use them (Kubernetes, cri-api, runtime.v1).

A line is a message; `name=number:type` is a field, a string if it has no type; `[]` after the type means any number.
Maps from strings to strings are lists of `KeyValue`, which is the same on the wire. Enumerations are numbers.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

#: Modes of a namespace, states of a pod sandbox and of a container.
POD, CONTAINER, NODE = range(3)
READY, NOT_READY = range(2)
CREATED, RUNNING, EXITED = range(3)

_TABLE = """
KeyValue                      key=1 value=2
Mount                         container_path=1 host_path=2 readonly=3:bool
NamespaceOption               network=1:int32 pid=2:int32 ipc=3:int32 target_id=4
SecurityProfile               profile_type=1:int32 localhost_ref=2
Capability                    add_capabilities=1:string[] drop_capabilities=2:string[]
Int64Value                    value=1:int64
UInt64Value                   value=1:uint64

PodSandboxMetadata            name=1 uid=2 namespace=3 attempt=4:uint32
LinuxSandboxSecurityContext   namespace_options=1:NamespaceOption seccomp=9:SecurityProfile
LinuxPodSandboxConfig         cgroup_parent=1 security_context=2:LinuxSandboxSecurityContext sysctls=3:KeyValue[]
PodSandboxConfig              metadata=1:PodSandboxMetadata hostname=2 log_directory=3 labels=6:KeyValue[] \
                              linux=8:LinuxPodSandboxConfig
RunPodSandboxRequest          config=1:PodSandboxConfig runtime_handler=2
RunPodSandboxResponse         pod_sandbox_id=1
StopPodSandboxRequest         pod_sandbox_id=1
StopPodSandboxResponse
RemovePodSandboxRequest       pod_sandbox_id=1
RemovePodSandboxResponse
PodSandboxStatusRequest       pod_sandbox_id=1 verbose=2:bool
PodSandboxNetworkStatus       ip=1
PodSandboxStatus              id=1 state=3:int32 network=5:PodSandboxNetworkStatus runtime_handler=9
PodSandboxStatusResponse      status=1:PodSandboxStatus info=2:KeyValue[]
ListPodSandboxRequest
PodSandbox                    id=1 state=3:int32
ListPodSandboxResponse        items=1:PodSandbox[]

ImageSpec                     image=1
LinuxContainerResources       cpu_period=1:int64 cpu_quota=2:int64 cpu_shares=3:int64 \
                              memory_limit_in_bytes=4:int64 oom_score_adj=5:int64
LinuxContainerSecurityContext capabilities=1:Capability namespace_options=3:NamespaceOption run_as_user=5:Int64Value \
                              readonly_rootfs=7:bool no_new_privs=11:bool seccomp=15:SecurityProfile
LinuxContainerConfig          resources=1:LinuxContainerResources security_context=2:LinuxContainerSecurityContext
ContainerMetadata             name=1 attempt=2:uint32
ContainerConfig               metadata=1:ContainerMetadata image=2:ImageSpec command=3:string[] args=4:string[] \
                              working_dir=5 envs=6:KeyValue[] mounts=7:Mount[] log_path=11 \
                              linux=15:LinuxContainerConfig
CreateContainerRequest        pod_sandbox_id=1 config=2:ContainerConfig sandbox_config=3:PodSandboxConfig
CreateContainerResponse       container_id=1
StartContainerRequest         container_id=1
StartContainerResponse
StopContainerRequest          container_id=1 timeout=2:int64
StopContainerResponse
RemoveContainerRequest        container_id=1
RemoveContainerResponse
ContainerStatusRequest        container_id=1 verbose=2:bool
ContainerStatus               id=1 state=3:int32 exit_code=7:int32 reason=10 message=11
ContainerStatusResponse       status=1:ContainerStatus info=2:KeyValue[]
UpdateContainerResourcesRequest container_id=1 linux=2:LinuxContainerResources
UpdateContainerResourcesResponse
ExecSyncRequest               container_id=1 cmd=2:string[] timeout=3:int64
ExecSyncResponse              stdout=1:bytes stderr=2:bytes exit_code=3:int32
CpuUsage                      timestamp=1:int64 usage_core_nano_seconds=2:UInt64Value
MemoryUsage                   timestamp=1:int64 working_set_bytes=2:UInt64Value
ContainerStats                cpu=2:CpuUsage memory=3:MemoryUsage
ContainerStatsRequest         container_id=1
ContainerStatsResponse        stats=1:ContainerStats
StatusRequest                 verbose=1:bool
RuntimeCondition              type=1 status=2:bool reason=3 message=4
RuntimeStatus                 conditions=1:RuntimeCondition[]
StatusResponse                status=1:RuntimeStatus
"""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "uint32": _Field.TYPE_UINT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
}


def _load() -> dict[str, Any]:
    """The classes of the messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(name="cri.proto", package="runtime.v1", syntax="proto3")
    for line in filter(None, _TABLE.replace("\\\n", "").splitlines()):
        name, *fields = line.split()
        message = file.message_type.add(name=name)
        for text in fields:
            known, _, kind = text.partition(":")
            word, _, number = known.partition("=")
            label = _Field.LABEL_REPEATED if kind.endswith("[]") else _Field.LABEL_OPTIONAL
            field = message.field.add(name=word, number=int(number), label=label)
            kind = kind.removesuffix("[]") or "string"
            if kind in _SCALARS:
                field.type = _SCALARS[kind]
            else:
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".runtime.v1.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = [message.name for message in file.message_type]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"runtime.v1.{name}"))
        for name in names
    }


#: The classes of the messages, by name.
MESSAGES = _load()
