# make demo   from nothing to a picture: installs, exports turbo-vaed to Core ML, decodes a clip with the file
# make test   installs if needed, runs every test
# make docs   the site, in build/site
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Two processes of one thread each: captures and searches are Python, on one core. See tests/conftest.py for who shares one.
IN_PARALLEL := -n 2 --dist loadgroup
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-quick lint docs web wheel clean

demo: $(STAMP)
	$(BIN)/edgekit export turbo-vaed --target coreml --size 144x256 --frames 36 -o demo/turbo-vaed.bundle --force
	$(BIN)/python -m edgekit.demo demo/turbo-vaed.bundle demo/turbo-vaed.png

test: $(STAMP)
	$(PYTEST) $(IN_PARALLEL)

test-quick: $(STAMP)
	$(PYTEST) -m "not slow" $(IN_PARALLEL)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)
	$(BIN)/mkdocs build --strict

web:
	cd export/web && npm ci --no-audit --no-fund && npm run build

wheel: $(STAMP) web
	rm -rf dist
	$(BIN)/python -m build --wheel

$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): torch and the converters, two minutes on a fast line"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) demo dist build
