/*
 * PREFIX/bin/pyrunc: the Python interpreter as a library, told where everything is, and the code archive.
 * Made by `make install`; `make uninstall` removes it.
 *
 * A runtime is started anew for every verb of an engine. Against a script for `python3 -IS` this saves the search
 * for the standard library's first modules (they are in `frozen_modules`), the compilation of the script, and
 * parts of the interpreter's own start; docs/performance.md has the numbers. It depends neither on the environment
 * nor on the first python3 of PATH. install/launcher.py compiles it, and install/archive.py makes the archive.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <marshal.h>

#include <fcntl.h>
#include <sys/mman.h>
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

/*
 * Memory for Python's objects, in huge pages if the system allows it (madvise(2)): a process that lives for
 * milliseconds spends a tenth of them in the faults of its first pages. Nothing is given back before the end.
 */
enum { HUGE_PAGE = 2 << 20, POOL = 3 * HUGE_PAGE };

static void *allocate_arena(void *context, size_t size)
{
    static char *next, *end;
    char *arena;

    (void)context;
    if (!next) {
        char *pool = mmap(NULL, POOL + HUGE_PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (pool == MAP_FAILED)
            return NULL;
        next = (char *)(((uintptr_t)pool + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
        end = next + POOL;
        madvise(next, POOL, MADV_HUGEPAGE);
    }
    if ((size_t)(end - next) >= size) {
        arena = next;
        next += size;
        return arena;
    }
    arena = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return arena == MAP_FAILED ? NULL : arena;
}

static void keep_arena(void *context, void *arena, size_t size)
{
    (void)context, (void)arena, (void)size;
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
    PyObjectArenaAllocator arenas = {NULL, allocate_arena, keep_arena};
    PyPreConfig before;
    PyConfig config;

    PyObject_SetArenaAllocator(&arenas);
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

/* The archive as a memoryview, whose header is that of this interpreter. */
static PyObject *map_archive(void)
{
    int file = open(ARCHIVE, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *bytes;
    uint64_t size;
    uint32_t magic;

    if (file < 0 || fstat(file, &status) != 0 || status.st_size < HEADER_SIZE)
        fail(ARCHIVE " cannot be read");
    /* A new installation replaces the file, it does not change it; what is mapped stays as it is. */
    bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, file, 0);
    if (bytes == MAP_FAILED)
        fail(ARCHIVE " cannot be read");
    close(file);
    memcpy(&magic, bytes, sizeof magic);
    memcpy(&size, bytes + 8, sizeof size);
    if (magic != (uint32_t)PyImport_GetMagicNumber() || size != (uint64_t)status.st_size)
        fail(ARCHIVE " is damaged, or of another Python");
    return PyMemoryView_FromMemory(bytes, status.st_size, PyBUF_READ);
}

/* Runs the loader, the first code of the archive (loader.py); its function `load`. */
static PyObject *start_loader(PyObject *data)
{
    const Py_buffer *archive = PyMemoryView_GET_BUFFER(data);
    const char *bytes = archive->buf;
    PyObject *head, *names, *load;
    uint64_t start;

    memcpy(&start, bytes + 16, sizeof start);
    if (start < HEADER_SIZE || start > (uint64_t)archive->len)
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
    PyObject *data, *load, *module;

    start_interpreter(argc, argv);
    PyGC_Disable(); /* the process lives for milliseconds, and loading code would wake the collector again and again */
    data = map_archive();
    if (!data)
        fail(ARCHIVE " cannot be mapped");
    load = start_loader(data);
    module = PyObject_CallFunction(load, "s", "pyrunc.cli.main");
    if (!module)
        fail("the runtime cannot be imported");
    PyObject_CallMethod(module, "run_main", NULL); /* ends the process */
    fail("the runtime came back");
}
