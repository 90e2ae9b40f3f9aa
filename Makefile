# make demo   environment, an example model exported to ONNX, a full scan, the report
# make test   environment, all default tests on two processes, the ten slowest told
# make lint   style, types, architecture
# make slow   tests that take minutes
# make shapes every annotated tensor shape, checked while the tests run
# make device every attack's tests with the attack on an emulated accelerator
# make gpu    what only a GPU can show, in at most ten minutes; exits with 2 where there is none

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint shapes device gpu slow clean system

demo: $(VENV)/.demo
	@mkdir -p demo
	$(BIN)/python examples/export_video_transformer.py demo/video_transformer.onnx
	@$(BIN)/fl-audit scan demo/video_transformer.onnx --what-if --out fl-audit-report; code=$$?; \
	echo "fl-audit exited with code $$code (0 gate satisfied, 1 leakage found, 4 inconclusive)"; \
	case $$code in 0|1|4) ls -l fl-audit-report/results.json fl-audit-report/report.html fl-audit-report/report.pdf;; *) exit $$code;; esac

# Two processes of one thread each; a file stays with one of them, so that what its tests share is made once. A hundred
# processes are started, which need not compile the same modules again.
test: $(VENV)/.dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=10

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

shapes: $(VENV)/.dev
	FL_AUDIT_CHECK_SHAPES=1 $(BIN)/python -m pytest $(addprefix tests/,probe federated attack enhance exposure score)

device: $(VENV)/.dev
	FL_AUDIT_ATTACKS_ON=emulated OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile \
	  $(addprefix tests/attack/,closed_form features fedavg labels malicious matching recursion)

# The Python that is there, with torch and little else: what is missing is told and left out.
gpu:
	$(PYTHON) benchmarks/gpu.py --out gpu.json

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "fl-audit needs Python 3.11 or newer: make PYTHON=python3.11 ..." >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 cannot make environments here: apt-get install python3-venv" >&2; exit 2; }

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python system
	$(PIP) -e ".[export]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python system
	$(PIP) -e ".[dev]"
	@touch $@

# PDF needs Pango from the system. Installed where that is allowed, named where it is not.
system:
	@if ! ldconfig -p 2>/dev/null | grep -q libpangoft2-1.0 || ! ldconfig -p 2>/dev/null | grep -q libharfbuzz-subset; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0; \
	  else echo "no Pango on this machine, so no PDF: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0" >&2; fi; fi

clean:
	rm -rf $(VENV) demo fl-audit-report build dist
