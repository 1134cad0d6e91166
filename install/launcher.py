#!@PYTHON@ -IBS
"""pyrunc, an OCI container runtime. Made by `make install`; `make uninstall` removes it.

-I: neither the environment nor the working directory counts; -S: no site, which reads files and costs time;
-B: no .pyc files are written. This runs as root, anew for every verb of an engine.
"""

import gc
import posix
import sys

gc.disable()  # the process lives for milliseconds, and loading code would wake the collector again and again
HOME = "@HOME@"
sys.path += (HOME, HOME + "/vendor")  # behind the standard library, so that nothing there hides a part of it
load = None
try:
    from _frozen_importlib_external import MAGIC_NUMBER

    file = posix.open(HOME + "/pyrunc.code", posix.O_RDONLY | posix.O_CLOEXEC)
    data = posix.read(file, posix.fstat(file).st_size)
    posix.close(file)
    if data.startswith(MAGIC_NUMBER) and int.from_bytes(data[8:16], "little") == len(data):
        import marshal

        start = int.from_bytes(data[16:24], "little")
        code, index = marshal.loads(data[24:start])
        names = {"DATA": data, "START": start, "INDEX": index}
        exec(code, names)
        load = names["load"]
except OSError:
    pass  # without the archive every module is imported from its file, only slower
try:
    if load:
        load("pyrunc.cli.main")
    from pyrunc.cli.main import run_main
except ImportError as error:
    version = sys.version.split()[0]
    sys.exit(
        f"pyrunc: cannot start: {error} (installed for Python @VERSION@, this is {version}; install it again)"
    )
run_main()
