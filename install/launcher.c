/*
 * PREFIX/bin/pyrunc: the Python interpreter as a library, told where everything is, and the code archive.
 * Made by `make install`; `make uninstall` removes it.
 *
 * A runtime is started anew for every verb of an engine. Against a script for `python3 -IS` this saves the search
 * for the standard library's first modules (they are in `frozen_modules`), the compilation of the script, and a
 * part of the interpreter's own start: docs/performance.md has the numbers. It depends neither on the environment
 * nor on the first python3 of PATH. install/launcher.py compiles it, and install/archive.py makes the archive.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <marshal.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef HOME /* PREFIX/lib/pyrunc */
#define HOME "/nonexistent"
#define STDLIB "/nonexistent"
#define PYTHON "/nonexistent"
#define PYTHON_PREFIX "/nonexistent"
#endif

#define WIDE_(text) L##text
#define WIDE(text) WIDE_(text)
#define ARCHIVE HOME "/pyrunc.code"

enum { HEADER_SIZE = 24 }; /* of the archive: magic number, size, where the modules' code begins; 8 bytes each */

/* By which install.py knows that a file is ours. */
__attribute__((used)) static const char mark[] = "Made by `make install`";

/* encodings and what else the interpreter imports before it can import anything (launcher.py). */
extern const struct _frozen frozen_modules[];

static _Noreturn void fail(const char *what)
{
    if (PyErr_Occurred())
        PyErr_Print();
    fprintf(stderr, "pyrunc: cannot start: %s (install it again)\n", what);
    _exit(1);
}

static void check(PyStatus status)
{
    if (PyStatus_Exception(status))
        fail(status.err_msg ? status.err_msg : "Python cannot be initialized");
}

/* Encodings that are not frozen are found in the standard library all the same. */
static void find_other_encodings(void)
{
    PyObject *package = PyImport_ImportModule("encodings");
    PyObject *path = Py_BuildValue("[s]", STDLIB "/encodings");

    if (!package || !path || PyObject_SetAttrString(package, "__path__", path) != 0)
        fail("the standard library has no encodings");
    Py_DECREF(path);
    Py_DECREF(package);
}

/* Isolated: neither the environment nor the working directory counts, and no site is imported. */
static void start_interpreter(int argc, char **argv)
{
    /* What is ours comes behind the standard library, so that it hides no part of it. */
    static const wchar_t *const paths[] = {WIDE(STDLIB), WIDE(STDLIB) L"/lib-dynload", WIDE(HOME),
                                           WIDE(HOME) L"/vendor"};
    PyPreConfig before;
    PyConfig config;

    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* paths are bytes to the kernel; they are UTF-8 here, whatever the locale */
    before.configure_locale = 0;
    check(Py_PreInitialize(&before));
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.parse_argv = 0;
    config.install_signal_handlers = 1; /* SIGINT is KeyboardInterrupt, SIGPIPE an errno */
    config.module_search_paths_set = 1;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        check(PyWideStringList_Append(&config.module_search_paths, paths[i]));
    check(PyConfig_SetBytesArgv(&config, argc, argv));
    check(PyConfig_SetString(&config, &config.executable, WIDE(PYTHON)));
    check(PyConfig_SetString(&config, &config.base_executable, WIDE(PYTHON)));
    check(PyConfig_SetString(&config, &config.prefix, WIDE(PYTHON_PREFIX)));
    check(PyConfig_SetString(&config, &config.base_prefix, WIDE(PYTHON_PREFIX)));
    check(PyConfig_SetString(&config, &config.exec_prefix, WIDE(PYTHON_PREFIX)));
    check(PyConfig_SetString(&config, &config.base_exec_prefix, WIDE(PYTHON_PREFIX)));
    check(PyConfig_SetString(&config, &config.stdlib_dir, WIDE(STDLIB)));
    PyImport_FrozenModules = frozen_modules;
    check(Py_InitializeFromConfig(&config));
    PyConfig_Clear(&config);
    find_other_encodings();
}

/* The whole archive as a bytes object, whose header is that of this interpreter. */
static PyObject *read_archive(void)
{
    int file = open(ARCHIVE, O_RDONLY | O_CLOEXEC);
    struct stat status;
    PyObject *data;
    const char *bytes;
    uint64_t size;
    uint32_t magic;

    if (file < 0 || fstat(file, &status) != 0 || status.st_size < HEADER_SIZE)
        fail(ARCHIVE " cannot be read");
    data = PyBytes_FromStringAndSize(NULL, status.st_size);
    if (!data || read(file, PyBytes_AS_STRING(data), (size_t)status.st_size) != status.st_size)
        fail(ARCHIVE " cannot be read");
    close(file);
    bytes = PyBytes_AS_STRING(data);
    memcpy(&magic, bytes, sizeof magic);
    memcpy(&size, bytes + 8, sizeof size);
    if (magic != (uint32_t)PyImport_GetMagicNumber() || size != (uint64_t)status.st_size)
        fail(ARCHIVE " is damaged, or of another Python");
    return data;
}

/* Runs the loader, the first code of the archive (loader.py); its function `load`. */
static PyObject *start_loader(PyObject *data)
{
    const char *bytes = PyBytes_AS_STRING(data);
    PyObject *head, *names, *load;
    uint64_t start;

    memcpy(&start, bytes + 16, sizeof start);
    if (start < HEADER_SIZE || start > (uint64_t)PyBytes_GET_SIZE(data))
        fail(ARCHIVE " is damaged");
    head = PyMarshal_ReadObjectFromString(bytes + HEADER_SIZE, (Py_ssize_t)start - HEADER_SIZE);
    if (!head || !PyTuple_Check(head) || PyTuple_GET_SIZE(head) != 2)
        fail(ARCHIVE " is damaged");
    names = Py_BuildValue("{sOsKsOsO}", "DATA", data, "START", (unsigned long long)start, "INDEX",
                          PyTuple_GET_ITEM(head, 1), "__builtins__", PyEval_GetBuiltins());
    if (!names || !PyEval_EvalCode(PyTuple_GET_ITEM(head, 0), names, names))
        fail(ARCHIVE " is damaged");
    load = PyDict_GetItemString(names, "load");
    if (!load)
        fail(ARCHIVE " is damaged");
    return load;
}

int main(int argc, char **argv)
{
    PyObject *load, *module;

    start_interpreter(argc, argv);
    PyGC_Disable(); /* the process lives for milliseconds, and loading code would wake the collector again and again */
    load = start_loader(read_archive());
    module = PyObject_CallFunction(load, "s", "pyrunc.cli.main");
    if (!module)
        fail("the runtime cannot be imported");
    PyObject_CallMethod(module, "run_main", NULL); /* ends the process */
    fail("the runtime came back");
}
