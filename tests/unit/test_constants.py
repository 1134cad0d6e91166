"""Every constant of `pyrunc.kernel.constants` against the C headers of this machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pyrunc.kernel import constants, rtnetlink, structs
from pyrunc.kernel.numbers import SYSCALLS

#: glibc's headers and the kernel's cannot be included together (struct flock), so there are two programs.
HEADERS = (
    """
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <linux/magic.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/wait.h>
""",
    """
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/if_link.h>
#include <linux/memfd.h>
#include <linux/mount.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <linux/pidfd.h>
#include <linux/prctl.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/stat.h>
#include <linux/wait.h>
int printf(const char *, ...);
""",
)

#: Constants that the headers of Debian 12 (Linux 6.1) do not have yet, with the release that brought them.
NEWER = {"MFD_EXEC": "6.3", "PIDFD_SIGNAL_PROCESS_GROUP": "6.9", "STATX_MNT_ID_UNIQUE": "6.8"}

#: Enumerators, and a macro that is defined where they are.
ENUMERATORS = {
    **dict.fromkeys(("FSCONFIG_SET_FLAG", "FSCONFIG_SET_STRING"), "FSOPEN_CLOEXEC"),
    **dict.fromkeys(("FSCONFIG_CMD_CREATE", "FSCONFIG_CMD_RECONFIGURE"), "FSOPEN_CLOEXEC"),
    **dict.fromkeys(
        (
            "BPF_CGROUP_DEVICE",
            "BPF_OBJ_GET_INFO_BY_FD",
            "BPF_PROG_ATTACH",
            "BPF_PROG_DETACH",
            "BPF_PROG_GET_FD_BY_ID",
            "BPF_PROG_LOAD",
            "BPF_PROG_QUERY",
            "BPF_PROG_TYPE_CGROUP_DEVICE",
        ),
        "BPF_F_ALLOW_MULTI",
    ),
    **dict.fromkeys([name for name in vars(rtnetlink) if name.startswith(("IFA_", "IFLA_"))], "IFA_RTA"),
    **dict.fromkeys(("NETLINK_CAP_ACK", "NLMSGERR_ATTR_MSG", "RT_SCOPE_UNIVERSE"), "NLMSG_DONE"),
    "IFF_UP": "IF_NAMESIZE",
    "MSG_NOSIGNAL": "SOL_SOCKET",
    "SCM_RIGHTS": "SOL_SOCKET",
    "SOCK_CLOEXEC": "SOL_SOCKET",
}


def test_constants_are_those_of_the_headers(tmp_path: Path) -> None:
    ours = {
        name: value
        for module in (constants, rtnetlink)
        for name, value in vars(module).items()
        if name.isupper()
    }
    theirs: dict[str, int] = {}
    for number, headers in enumerate(HEADERS):
        lines = []
        for name in ours:
            # Some are enumerators, which #ifdef does not see; those are asked for by their first header alone.
            guard = ENUMERATORS.get(name, name)
            lines.append(f'#ifdef {guard}\nprintf("{name} %lld\\n", (long long)({name}));\n#endif')
        source = tmp_path / f"constants{number}.c"
        source.write_text(headers + "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n")
        program = tmp_path / f"constants{number}"
        subprocess.run(["cc", "-w", "-o", program, source], check=True)
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
        theirs |= {words[0]: int(words[1]) for words in map(str.split, said.splitlines())}
    missing = set(ours) - set(theirs) - set(NEWER)
    assert not missing, f"not in the headers: {sorted(missing)}"
    assert theirs == {name: ours[name] for name in theirs}


#: The structures of `pyrunc.kernel.structs`: their C names, and the prefix of their members.
STRUCTURES = {
    "OPEN_HOW": ("struct open_how", ""),
    "MOUNT_ATTR": ("struct mount_attr", ""),
    "CLONE_ARGS": ("struct clone_args", ""),
    "STATX": ("struct statx", "stx_"),
    "STATFS": ("struct statfs", "f_"),
}
MEMBERS = {"STATX_AT_RDEV": "stx_rdev_major"}


def test_structures_are_those_of_the_headers(tmp_path: Path) -> None:
    ours = {name: value for name, value in vars(structs).items() if name.isupper()}
    lines = []
    for name in ours:
        kind, _, member = name.partition("_AT_")
        kind = kind if member else kind.removesuffix("_SIZE")
        structure, prefix = STRUCTURES[kind]
        place = MEMBERS.get(name, prefix + member.lower())
        what = f"offsetof({structure}, {place})" if member else f"sizeof({structure})"
        lines.append(f'printf("{name} %zu\\n", {what});')
    source, program = tmp_path / "structs.c", tmp_path / "structs"
    headers = "stdio.h stddef.h linux/mount.h linux/openat2.h linux/sched.h linux/stat.h sys/vfs.h".split()
    source.write_text(
        "".join(f"#include <{header}>\n" for header in headers)
        + "int main(void) {\n"
        + "\n".join(lines)
        + "\nreturn 0; }\n"
    )
    subprocess.run(["cc", "-o", program, source], check=True)
    said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    assert {words[0]: int(words[1]) for words in map(str.split, said.splitlines())} == ours


def test_system_calls_that_programs_use_have_numbers() -> None:
    for name in ("execve", "openat2", "clone3", "mount_setattr", "move_mount", "pidfd_send_signal"):
        assert SYSCALLS[name] > 0
