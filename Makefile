# pyrunc. `make demo` and `make test` install what they need; CONTRIBUTING.md tells more.
#
#   make            build: the native part and the generated modules, into the tree
#   make demo       run bundles/busybox and show what happened
#   make test       everything: checks, then all tests, the engines' too    (ARGS="-k name -x" for pytest)
#   make test-vm    the tests of the kernel, the runtime and the engines in a guest with cgroup v2, systemd and AppArmor
#   make check      ruff, mypy, warnings of the C compiler
#   make install    PREFIX=/usr/local DESTDIR=
#   make uninstall  PREFIX=/usr/local DESTDIR=
#   make bench      pyrunc, runc and crun side by side
#   make clean      remove what was built (not .venv)

PREFIX ?= /usr/local
DESTDIR ?=
ARGS ?=
PY := .venv/bin/python
PROFILE := build/profile
STAGED := $(CURDIR)/build/installed
export PREFIX DESTDIR
# Of all the variables of make, a nested make shall only get what is given to it.
unexport MAKEFLAGS MFLAGS

.PHONY: build demo test test-vm check install uninstall bench clean packages demo-packages rootfs staged environment test-environment

build: environment
	@$(PY) -m pyrunc.native.build

# What `build` needs, and nothing when it is there.
environment:
	@install/prepare build
	@install/environment build
	@install/environment run

test-environment:
	@install/prepare build demo test engines
	@install/environment build
	@install/environment run
	@install/environment test

demo-packages:
	@install/prepare build demo

packages:
	@install/prepare build demo test engines

rootfs:
	@install/prepare demo
	@bundles/busybox/make-rootfs

# The demo runs what `make install` makes, so it is installed, into build/installed.
staged: build
	@PREFIX=$(STAGED) DESTDIR= $(PY) -X no_debug_ranges install/install.py install --if-changed

demo: demo-packages rootfs staged
	@$(PY) bundles/demo.py $(STAGED)/bin/pyrunc bundles/busybox

check: test-environment build
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) install/check_c.py

test: check rootfs
	@install/run-tests $(ARGS)

# The machine's own packages are installed only when its image has to be made. ARGS="--part systemd -- -k name"
test-vm: test-environment
	@$(PY) -m tests.vm test $(ARGS)

install: build
	@$(PY) -X no_debug_ranges install/install.py install

# Needs no environment: what was installed can be removed after the build is gone.
uninstall:
	@python3 install/install.py uninstall

bench: test-environment rootfs staged
	@$(PY) -m bench $(ARGS)

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	test ! -x $(PY) || $(PY) -m pyrunc.native.build --list | sed 's,^,pyrunc/,' | xargs rm -f
	rm -rf bundles/*/rootfs
