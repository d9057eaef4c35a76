# Nothing in here is needed to use the project: the command `ppdet` does everything.
#
# make quickstart: set up, then `ppdet quickstart`: train, export, run and evaluate a small detector (6 minutes).
# make test:       set up and run the tests (20 minutes on two virtual cores).
# make collect:    import all tests, without running them (half a minute).
# make types:      check the types of ppdet/ with mypy (a minute).
# make lint:       check formatting and style.
# make wheel-check: build the wheel, install it into an empty environment outside the checkout, and try its commands
#                  (2 minutes).
# make soak:       kill training runs at random moments and compare their results with an undisturbed run (6 minutes).
# make soak-batch: kill workers and whole batch jobs over 5,000 images; needs MODEL=, an export, and BCCD's images.
# make soak-server: load a server, attack it and kill its processes (12 minutes); OPTIONS="--minutes 2 --clients 8".
# make audit:      look for dangerous calls in the code (bandit) and for known faults of the libraries (pip-audit).
# make fuzz:       10,000 hostile inputs of each kind (docs/RELIABILITY.md; 20 minutes); CASES=, SEED=, KINDS="images yaml".
# make notebook:   run docs/notebooks from top to bottom (two minutes).
# make mutants:    make small mistakes in the code, one at a time, and count those that no test notices; BUDGET=300
#                  mutants, MINUTES=60, ROOMS="nms data"; continues where it was stopped (CONTRIBUTING.md).
# make gpu-check:  `ppdet check-device`: test a GPU, or another device, beside the CPU (10 minutes on one card); first
#                  install a Paddle for it in .venv, or in VENV= (docs/GPU.md); ONLY="nms operators".
# make gpu-wheel:  test the GPU build of Paddle 2.6 as far as possible without a GPU: kernels, names, device code (4
#                  minutes, and 760 MB to download the first time; Linux on x86-64, Python 3.10 to 3.12).
# make parity:     compare with detectors of other code bases in PyTorch (Python 3.10 to 3.12; a minute).
# make cpp:        build the C++ example and the page's C++ client for ONNX Runtime, and compare their detections with
#                  Python's; installs the compiler and OpenCV if they are missing (Debian, as root; a minute).
# make javascript: run the page for browsers and the client in JavaScript with their packages from npm, and compare
#                  their detections with Python's (a minute).
# make processors: train, export and detect with the instructions of very old processors (SSE 4.1), and test the layers
#                  with AVX2 too (a minute); `make test` trains, exports and detects with AVX2.
# make zoo:        check that docs/MODEL_ZOO.md and docs/REFERENCE.md are what the code gives (a minute).
# make site:       build the documentation as a site, with search and without a network: open output/site/index.html (a
#                  minute the first time; Python 3.11 or newer).
# make benchmark:  measure every stage beside its limit (10 minutes); tables and output/benchmarks/*.json.
# make denseteacher-bccd: measure what unlabeled images bring, on BCCD, three splits (two hours); needs its images.
# make benchmark-peer: measure the training step beside the same network in PyTorch (Python 3.10 to 3.12; 13 minutes).

PYTHON ?= python3
VENV ?= .venv
PEER := .venv-peer
GPU_WHEEL := .venv-gpu-wheel
WHEEL := .venv-wheel
SITE := .venv-site
BIN := $(VENV)/bin

.PHONY: quickstart test collect types lint audit wheel-check soak soak-batch soak-server fuzz mutants gpu-check \
  gpu-wheel parity cpp javascript processors notebook zoo site benchmark denseteacher-bccd benchmark-peer clean

quickstart: $(VENV)/.installed
	@$(BIN)/python -m ppdet quickstart

# One process more than there are processors (tests/conftest.py), up to 8; each takes 1 to 3 GiB of memory.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal

collect: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest --collect-only -qq

notebook: $(VENV)/.installed-dev
	$(BIN)/python tests/notebooks.py

# oneDNN then uses no instructions beyond these, as if the processor had no others. test_processors.py takes AVX2 unless
# it is told otherwise, and is part of `make test`.
processors: $(VENV)/.installed-dev
	ONEDNN_MAX_CPU_ISA=SSE41 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal \
	    tests/end_to_end/test_processors.py tests/modeling/cpu
	ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal tests/modeling/cpu

BUDGET ?= 300
MINUTES ?= 60

mutants: $(VENV)/.installed-mutants
	$(BIN)/python tests/mutants/run.py --budget $(BUDGET) --minutes $(MINUTES) $(if $(ROOMS),--rooms $(ROOMS))

# Its environment serves for nothing else.
GPU_BUILD := paddlepaddle-gpu==2.6.2
DEVICE_TESTS := tests/test_paddle_names.py tests/optimizer tests/data/loading/test_to_device.py \
  $(addprefix tests/utils/,test_device.py process/test_memory.py process/test_start.py test_iteration.py) \
  $(addprefix tests/acceptance/test_,environment_checks.py operator_checks.py speed_checks.py) \
  $(addprefix tests/engine/,test_device_choice.py test_runtime.py test_no_reads.py test_eval_amp.py test_profiler.py \
    distributed/test_collectives.py distributed/test_data_parallel.py export/test_check.py proposal/test_recipe.py \
    $(addprefix training/test_,precision.py guard.py)) \
  $(addprefix tests/deploy/test_,gpu_options.py tensorrt.py float32_operators.py) \
  $(addprefix tests/modeling/,test_nms.py test_nms_on_gpu.py test_autocast.py test_folding.py cpu/test_selection.py)

gpu-wheel: $(GPU_WHEEL)/.installed
	$(GPU_WHEEL)/bin/python -m pytest -n logical --maxprocesses 8 --dist loadfile tests/gpu_wheel $(DEVICE_TESTS)

parity: $(VENV)/.installed-dev $(PEER)/.installed
	PPDET_TORCH_PYTHON=$(PEER)/bin/python $(BIN)/python -m pytest tests/parity tests/convert/test_with_torch.py

cpp: $(VENV)/.installed-cpp
	PPDET_ONNXRUNTIME=$(abspath $(VENV)/onnxruntime) $(BIN)/python -m pytest tests/deploy/test_cpp.py \
	    tests/deploy/test_clients.py -k cpp

javascript: $(VENV)/.installed-javascript
	PPDET_NODE_MODULES=$(abspath $(VENV)/javascript/node_modules) $(BIN)/python -m pytest tests/deploy/test_web.py \
	    tests/deploy/test_clients.py -k "web or javascript"

soak: $(VENV)/.installed-dev
	$(BIN)/python tests/soak/run.py

gpu-check: $(VENV)/.installed
	@$(BIN)/python -m ppdet check-device $(if $(ONLY),--only $(ONLY))

MODEL ?= output_inference/fcos_r18vd_fpn_bccd

soak-batch: $(VENV)/.installed-dev
	$(BIN)/python tests/soak/batch.py --model_dir $(MODEL) --image_dir dataset/bccd/images --images 5000

soak-server: $(VENV)/.installed-dev
	$(BIN)/python tests/soak/server.py $(OPTIONS)

CASES ?= 10000
SEED ?= 0

fuzz: $(VENV)/.installed-dev
	$(BIN)/python tests/fuzz/run.py --cases $(CASES) --seed $(SEED) $(addprefix --kind ,$(KINDS))

SMALL_STEP := --model r18vd --batch 4 --height 320 --width 448

benchmark: $(VENV)/.installed
	@$(BIN)/python dataset/shapes/generate.py
	@mkdir -p output/benchmarks
	@for stage in imports targets reader conv evaluate inference; do \
	  $(BIN)/python benchmarks/$$stage.py --json output/benchmarks/$$stage.json || exit 1; done
	@for dtype in float32 bfloat16; do \
	  $(BIN)/python benchmarks/train_step.py --dtype $$dtype --json output/benchmarks/r50_$$dtype.json && \
	  $(BIN)/python benchmarks/train_step.py $(SMALL_STEP) --dtype $$dtype \
	    --json output/benchmarks/r18vd_$$dtype.json || exit 1; done
	@echo; echo "Tables as JSON: output/benchmarks"

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# The advisory database is asked over the network; where it is out of reach, a line says so.
audit: $(VENV)/.installed-audit
	$(BIN)/bandit -q -c pyproject.toml -r ppdet tools deploy dataset docs benchmarks setup.py
	$(BIN)/python tests/audit.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The working directory is outside the checkout, so that nothing but the installed wheel is found.
wheel-check:
	@rm -rf $(WHEEL) build
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/pip install --disable-pip-version-check -q '.[cpu]'
	$(PYTHON) tests/wheel_check.py $(abspath $(WHEEL)/bin/ppdet)

zoo: $(VENV)/.installed
	$(BIN)/python tools/model_zoo.py --check
	$(BIN)/python -m ppdet.core.reference --check

# Warnings, dead links and pages without a place in the navigation are errors.
site: $(SITE)/.installed
	NO_MKDOCS_2_WARNING=1 $(SITE)/bin/mkdocs build --strict -q
	@echo "The documentation: output/site/index.html"

denseteacher-bccd: $(VENV)/.installed
	@$(BIN)/python benchmarks/dense_teacher_gain.py --rows longer all fixed

benchmark-peer: $(VENV)/.installed $(PEER)/.installed
	@$(BIN)/python benchmarks/peer/run.py

clean:
	rm -rf $(VENV) $(PEER) $(GPU_WHEEL) $(WHEEL) $(SITE) build output output_inference log dataset/shapes/data

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
	  sys.exit(0 if (3, 10) <= v <= (3, 13) else "Python %d.%d: 3.10 to 3.13 is needed: make PYTHON=python3.11" % v)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# A build of Paddle that the user has installed (for GPUs, say) is kept, and 2.6 gets the older libraries that it needs.
OWN := import importlib.metadata as m, re; \
  names = {re.sub("[-_.]+", "-", d.metadata["Name"] or "").lower(): d.version for d in m.distributions()}; \
  print(*(names[n] for n in ("paddlepaddle-gpu", "paddlepaddle-xpu", "paddlepaddle-dcu") if n in names))

# Arguments: the extras, in brackets and as they follow "cpu"; then the other targets that are installed by this.
define install
	@case "$$($(BIN)/python -c '$(OWN)')" in \
	  "") packages='.[cpu$(2)]' ;; \
	  2.*) packages='.$(1) numpy<2 opencv-python-headless<4.12 setuptools' ;; \
	  *) packages='.$(1)' ;; esac; \
	  $(BIN)/pip install --disable-pip-version-check -q -e $$packages
	@touch $(3) $@
endef

$(VENV)/.installed: pyproject.toml requirements.txt | $(BIN)/python
	$(call install,,)

$(VENV)/.installed-dev: pyproject.toml requirements.txt | $(BIN)/python
	$(call install,[dev],$(comma)dev,$(VENV)/.installed)

$(VENV)/.installed-audit: pyproject.toml requirements.txt | $(BIN)/python
	$(call install,[audit$(comma)dev],$(comma)audit$(comma)dev,$(VENV)/.installed $(VENV)/.installed-dev)

$(VENV)/.installed-mutants: pyproject.toml requirements.txt | $(BIN)/python
	$(call install,[dev$(comma)mutants],$(comma)dev$(comma)mutants,$(VENV)/.installed $(VENV)/.installed-dev)

# PyTorch is never installed into the project's own environment. pip prefers the builds without CUDA of PyTorch's index.
$(PEER)/.installed: Makefile
	$(PYTHON) -m venv $(PEER) || { rm -rf $(PEER); exit 1; }
	$(PEER)/bin/pip install --disable-pip-version-check -q --retries 1 \
	    --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0 numpy
	@touch $@

$(SITE)/.installed: pyproject.toml requirements.txt
	@test -x $(SITE)/bin/python || $(PYTHON) -m venv $(SITE) || { rm -rf $(SITE); exit 1; }
	@$(SITE)/bin/pip install --disable-pip-version-check -q --retries 1 -e '.[docs]' \
	  || { echo "make site: the packages of the extra 'docs' could not be installed: is the package index in reach, and Python 3.11 or newer?" >&2; exit 1; }
	@touch $@

$(GPU_WHEEL)/.installed: Makefile requirements.txt
	@$(PYTHON) -c 'import platform, sys; v = sys.version_info[:2]; \
	  here = "Python %d.%d on %s %s" % (*v, platform.system(), platform.machine()); \
	  sys.exit(0 if (3, 10) <= v <= (3, 12) and platform.system() == "Linux" and platform.machine() == "x86_64" \
	    else "make gpu-wheel: $(GPU_BUILD) is for Python 3.10 to 3.12 on Linux x86_64, this is %s" % here)'
	@test -x $(GPU_WHEEL)/bin/python || $(PYTHON) -m venv $(GPU_WHEEL) || { rm -rf $(GPU_WHEEL); exit 1; }
	@$(GPU_WHEEL)/bin/pip install --disable-pip-version-check -q --retries 1 '$(GPU_BUILD)' 'numpy<2' \
	    'opencv-python-headless<4.12' setuptools 'pytest>=7.4' 'pytest-xdist>=3.5' -r requirements.txt \
	  || { echo "make gpu-wheel: $(GPU_BUILD) could not be installed: is the package index within reach?" >&2; exit 1; }
	@touch $@

CPP_PACKAGES := cmake g++ pkg-config libopencv-dev libyaml-cpp-dev

$(VENV)/.installed-cpp: deploy/cpp/onnxruntime/from_packages.sh $(VENV)/.installed-dev
	@{ cmake --version && g++ --version && pkg-config opencv4 yaml-cpp || \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(CPP_PACKAGES); }; } >/dev/null 2>&1 \
	  && bash $< $(VENV)/onnxruntime $(BIN)/python 2>/dev/null \
	  || { echo "make cpp: its packages cannot be installed: $(CPP_PACKAGES), and those of $<" >&2; exit 1; }
	@touch $@

NODE_PACKAGES := onnxruntime-web@1 onnxruntime-node@1 js-yaml@5 sharp@0

$(VENV)/.installed-javascript: Makefile $(VENV)/.installed-dev
	@node --version >/dev/null \
	  && npm install --prefix $(VENV)/javascript --ignore-scripts --no-audit --no-fund --silent $(NODE_PACKAGES) \
	  || { echo "make javascript: Node.js is missing, or its packages cannot be installed: $(NODE_PACKAGES)" >&2; exit 1; }
	@touch $@

comma := ,
