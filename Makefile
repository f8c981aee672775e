# make demo    trains FCN-8s on drawn shapes, scores it and leaves pictures
# make test    runs the tests;  make test-slow  runs those that take longer
# make docs    builds the documentation, docs/_build/html/index.html, and runs its notebook
#              (some minutes; Python 3.11 and later)
# make lint    checks style and types
# make dist    builds what is released into dist/ (see CONTRIBUTING.md; Python 3.11 and later)
# make clean   removes generated files, but neither data/ nor work_dirs/
#
# All but clean set up the virtual environment .venv first. Without a GPU, take the CPU build of PyTorch:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# With OneDL's maintained fork of mmseg instead of OpenMMLab's last releases, in .venv-onedl:
#   make test HOST=onedl

PYTHON ?= python3
# The family of mmseg: openmmlab, openmmlab-compiled or onedl.
HOST ?= openmmlab
EXTRAS ?= $(HOST),export,geo,hub,keras,docs,test
TORCH_INDEX ?=
ARGS ?=
# Two at a time: many tests start a process and wait for it.
SIDE_BY_SIDE ?= -n 2 --dist loadfile

# Make waiting threads sleep, as in tools/threads.py.
ifeq ($(OMP_WAIT_POLICY)$(GOMP_SPINCOUNT),)
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0
endif

VENV := .venv$(if $(filter-out openmmlab,$(HOST)),-$(HOST))
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

CONFIG := configs/fcn8s_vgg16_shapes.py
WORK := work_dirs/fcn8s_vgg16_shapes

# The tests that meet mmseg's and mmengine's code most.
FAMILY := tests/test_compat.py tests/checks tests/export tests/weights tests/models/test_segmentor.py \
  tests/models/test_loss.py tests/engine/test_snapshots.py tests/engine/test_train_loop.py \
  tests/models/test_bands.py tests/tools/test_bands.py tests/tools/test_train_and_test.py \
  tests/tools/test_numbers.py tests/publishing

.PHONY: demo test test-family test-slow docs lint dist clean

demo: $(READY)
	$(RUN) tools/prepare_data.py shapes
	$(RUN) tools/train.py $(CONFIG) --work-dir $(WORK)
	$(RUN) tools/test.py $(CONFIG) $(WORK) --show-dir $(WORK)/pictures --show-interval 25

test: $(READY)
	$(RUN) -m pytest $(SIDE_BY_SIDE) $(ARGS)

test-family: $(READY)
	$(RUN) -m pytest $(SIDE_BY_SIDE) $(FAMILY) $(ARGS)

test-slow: $(READY)
	$(RUN) -m pytest $(SIDE_BY_SIDE) -m slow $(ARGS)

docs: $(READY)
	$(RUN) -m sphinx -q -W --keep-going -D nb_execution_mode=auto docs docs/_build/html
	@echo "Done: docs/_build/html/index.html"

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

dist: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[release]'
	$(if $(TORCH_INDEX),PIP_EXTRA_INDEX_URL=$(TORCH_INDEX)) $(RUN) release.py

# The stamp is written last, so that an interrupted set-up starts again. opencv-python needs libGL,
# which servers and containers often lack; there it is replaced by opencv-python-headless.
$(READY): setup.cfg setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null || { \
	  echo "$(PYTHON) is not Python 3.10 to 3.13: choose one with make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) -m pip install --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  -c constraints.txt -e '.[$(EXTRAS)]'
	@$(RUN) -c 'import cv2' 2>/dev/null || \
	  $(RUN) -m pip install -c constraints.txt --force-reinstall --no-deps opencv-python-headless
	@touch $@

clean:
	rm -rf .venv .venv-* docs/_build build dist *.egg-info fcn_plugin/.mim .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
