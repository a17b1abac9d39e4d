# Every target sets up what it needs in .venv. A second call installs nothing.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo ui test format clean chromium

demo: .venv/.product
	$(BIN)/lora-diffusion demo --out demo-output

ui: .venv/.product
	$(BIN)/lora-diffusion ui

test: .venv/.developer chromium
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope

format: .venv/.developer
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The browser tests need Chromium; where it cannot be installed they are skipped, and pytest's summary counts them.
chromium:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && apt-get update -qq \
	    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
	    || echo "Chromium is not there and cannot be installed here: the browser tests will be skipped"

clean:
	rm -rf .venv

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.product: pyproject.toml constraints.txt | .venv/bin/python
	$(INSTALL) --editable .
	@touch $@

.venv/.developer: .venv/.product
	$(INSTALL) --editable '.[dev]'
	@touch $@
