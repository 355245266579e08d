# Everything runs in .venv, which the first target that needs it makes from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check docs format lock clean

# All stages on embedded photographs: no internet, no person, about three minutes on two cores.
demo: .venv/installed
	$(BIN)/slim demo

# Every test, doctests and the snippets of the docs included, and the coverage; one worker per core, one thread each.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90

# Format, lint, types, and the direction of imports.
check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site; a warning is an error. Its first page is docs/_build/html/index.html.
docs: .venv/installed
	$(BIN)/sphinx-build -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

# Format the code and fix what ruff can fix.
format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Write the versions of the present environment to constraints.txt; torch brings its own CUDA packages.
lock: .venv/installed
	$(BIN)/pip freeze --exclude-editable | grep -Ev '^(nvidia|cuda|triton)' > constraints.txt

# Remove the environment, caches and the demo's run.
clean:
	rm -rf docs/_build docs/api docs/cli .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage dist runs/demo

# The environment is made again when the project's metadata or the constraints change.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch .venv/installed
