# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check format clean

# The whole method on embedded photographs: no internet, no person, about three minutes on two cores.
demo: .venv/installed
	$(BIN)/slim demo

# Every test, doctests included, and the coverage.
test: .venv/installed
	$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

# Format, lint, types, and the direction of imports.
check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Format the code and mend what ruff can mend.
format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Remove the environment, caches and the demo's run.
clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage dist runs/demo

# The environment is made again when the project's metadata changes.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch .venv/installed
