# pare - the commands that people type. CMake does the work.
#   make        builds build/pare            make test   installs, builds, runs every test
#   make demo   compresses a real model      make asan   the unit tests under AddressSanitizer and UBSan
#   make cuda   builds build/cuda/pare with the GPU's plug-in and runs its suite, where there is a GPU
#   make peft   installs HF PEFT and Debian's PyTorch: the tests that ask them skip without
SHELL := /bin/sh
PYTHON := build/venv/bin/python

.PHONY: all deps venv peft demo test asan cuda clean
all: build/build.ninja
	@cmake --build build --target pare

build/build.ninja: | build/.deps
	@cmake --preset dev >/dev/null

# What Debian has and is missing here; a second run finds nothing to do.
deps build/.deps:
	@sh tools/install_deps.sh
	@mkdir -p build && touch build/.deps

# ONNX Runtime and the ONNX checker judge the end-to-end tests.
venv: build/venv/.done
build/venv/.done: tests/e2e/requirements.txt
	@mkdir -p build && python3 -m venv build/venv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/e2e/requirements.txt
	@touch $@

# HF PEFT judges adapters. The last release for Debian's PyTorch, whose version (1.13.0a0) pip takes for one before 1.13.
peft: build/peft/.done
build/peft/.done:
	@mkdir -p build && sh tools/install_deps.sh python3-torch && /usr/bin/python3 -m venv --system-site-packages build/peft
	@build/peft/bin/python -m pip install --quiet --disable-pip-version-check 'transformers<4.41' psutil Jinja2
	@build/peft/bin/python -m pip install --quiet --disable-pip-version-check --no-deps peft==0.10.0 accelerate==0.29.3
	@touch $@

demo: all
	@sh examples/demo.sh

test: build/build.ninja venv
	@cmake --build build
	@PARE_PYTHON=$(CURDIR)/$(PYTHON) ctest --test-dir build -j2 --output-on-failure --timeout 1500

asan: | build/.deps
	@cmake --preset asan >/dev/null && cmake --build build/asan
	@ASAN_OPTIONS=detect_leaks=0 ctest --test-dir build/asan -j2 --output-on-failure --timeout 1200 -LE e2e

# Compiles the plug-in where nvcc is; the suite skips, saying so, where no GPU is.
cuda: | build/.deps
	@if ! command -v nvcc >/dev/null; then echo "skipped: there is no nvcc here, the CUDA plug-in is not compiled"; \
	else cmake --preset cuda >/dev/null && cmake --build build/cuda --target pare pare_cuda gpu_suites \
	  && ctest --test-dir build/cuda --output-on-failure -L gpu && PARE_PLUGIN_DIR=build/cuda build/cuda/tests/gpu_ops 2>&1 | head -1; fi

clean:
	rm -rf build
