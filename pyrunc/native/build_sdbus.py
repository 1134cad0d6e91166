"""Declares what pyrunc calls of libsystemd for cffi in ABI mode; `pyrunc.native.build` writes the module.

ABI mode needs neither the library nor its headers to build, and binds the library when it is first used: a host
without systemd runs pyrunc as well. The declarations are those of the man pages sd_bus_*(3), none of them
variadic.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

MODULE = "pyrunc.linux.cgroups.systemd._sdbus"

DECLARATIONS = """
typedef struct sd_bus sd_bus;
typedef struct sd_bus_message sd_bus_message;
typedef struct { const char *name; const char *message; int _need_free; } sd_bus_error;

int sd_bus_new(sd_bus **bus);
int sd_bus_set_address(sd_bus *bus, const char *address);
int sd_bus_set_bus_client(sd_bus *bus, int yes);
int sd_bus_start(sd_bus *bus);
sd_bus *sd_bus_close_unref(sd_bus *bus);
int sd_bus_get_fd(sd_bus *bus);
int sd_bus_get_events(sd_bus *bus);
int sd_bus_process(sd_bus *bus, sd_bus_message **message);
int sd_bus_send(sd_bus *bus, sd_bus_message *message, uint64_t *cookie);

int sd_bus_message_new_method_call(sd_bus *bus, sd_bus_message **message, const char *destination,
                                   const char *path, const char *interface, const char *member);
sd_bus_message *sd_bus_message_unref(sd_bus_message *message);
int sd_bus_message_append_basic(sd_bus_message *message, char type, const void *value);
int sd_bus_message_open_container(sd_bus_message *message, char type, const char *contents);
int sd_bus_message_close_container(sd_bus_message *message);
int sd_bus_message_get_reply_cookie(sd_bus_message *message, uint64_t *cookie);
int sd_bus_message_is_signal(sd_bus_message *message, const char *interface, const char *member);
int sd_bus_message_is_method_error(sd_bus_message *message, const char *name);
const sd_bus_error *sd_bus_message_get_error(sd_bus_message *message);
int sd_bus_message_peek_type(sd_bus_message *message, char *type, const char **contents);
int sd_bus_message_read_basic(sd_bus_message *message, char type, void *value);
int sd_bus_message_enter_container(sd_bus_message *message, char type, const char *contents);
int sd_bus_message_exit_container(sd_bus_message *message);
"""


def write(path: Path) -> None:
    """Write the module to `path`."""
    ffi = FFI()
    ffi.cdef(DECLARATIONS)
    ffi.set_source(MODULE, None)
    ffi.emit_python_code(str(path))
