# Everything runs in .venv, which the first target that needs it makes from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test oldest check docs format lock clean

# All stages on embedded photographs: no internet, no person, about three minutes on two cores.
demo: .venv/installed
	$(BIN)/slim demo

# Every test, doctests and the snippets of the docs included, and the coverage; one worker per core, one thread each.
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90

# The oldest packages that pyproject.toml allows, in an environment of their own, and tests that use each of them. torch and
# torchvision stay those of constraints.txt; deprecations, which later versions announce, are no errors here.
OLDEST := tests/test_record.py tests/test_files.py tests/test_overlay.py tests/data/test_tables.py tests/data/test_inspection.py \
	tests/network tests/stages/test_embed.py tests/stages/curate tests/stages/propagate tests/stages/report \
	tests/stages/annotate/formats tests/stages/annotate/page/test_app.py tests/stages/annotate/page/test_security.py \
	tests/stages/annotate/page/test_odd_requests.py tests/comparison/test_tables.py tests/runs/test_two_roads.py
oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check uv
	grep -E '^torch(vision)?==' constraints.txt > .venv-oldest/torch.txt
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --resolution lowest-direct \
		--override .venv-oldest/torch.txt --editable '.[demo]'
	.venv-oldest/bin/uv pip freeze --python .venv-oldest --exclude-editable > .venv-oldest/oldest.txt
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest --constraint .venv-oldest/oldest.txt grad-cam httpx hypothesis pytest
	OMP_NUM_THREADS=1 .venv-oldest/bin/pytest -q -W default -p no:cacheprovider $(OLDEST)

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
	rm -rf docs/_build docs/api docs/cli .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .coverage dist runs/demo

# The environment is made again when the project's metadata or the constraints change.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch .venv/installed
