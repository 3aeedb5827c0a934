.PHONY: check docs lint test test-all

check: lint test-all

lint:
	ruff format --check .
	ruff check .
	mypy
	lint-imports

test:
	pytest -n 2

test-all:
	pytest -n 2 -m ""

docs:
	sphinx-build -q -W --keep-going -c docs . docs/_build/html
