# Every target does its own set-up: a fresh clone needs Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-quick test-proxy test-pages screenshots chaos chaos-proof fuzz check bench bench-quality load format install secrets clean

install: $(STAMP)
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "foretrain needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[api,otel,embedded,trainer,kernels,sample-data,dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/foretrain demo

# Two processes, each with servers of its own; a file's tests stay together, for they share what it trained.
PYTEST_ARGS ?= -n 2 --dist loadfile
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_ARGS)

test-quick: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PYTEST_ARGS) -m 'not slow'

# Faults by the hundred against real processes; root, for a small file system. SEED repeats a run's faults.
SEED ?= 20261123
chaos: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[chaos]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos --seed $(SEED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos.due_work

# Without the token check the same faults must do harm.
chaos-proof: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.chaos.proof

# Twenty thousand generated requests and more, by two tenants, against a service that has something of everything.
fuzz: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seed $(SEED)

# A program of Debian's own, $(1), out of its package $(2), where it is missing.
define debian
	@command -v $(1) >/dev/null || { test "$$(id -u)" = 0 || { echo "make $@ needs $(1): apt-get install $(2), as root" >&2; exit 1; }; \
	  apt-get update -qq && apt-get install -qq -y --no-install-recommends $(2); }
endef

test-proxy: $(STAMP)
	$(call debian,promtool,prometheus)
	$(call debian,nginx,nginx-light)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/debian/prometheus_server.py tests/debian/nginx_proxy.py
	promtool check config --syntax-only deploy/prometheus/prometheus.yml
	promtool check rules deploy/prometheus/alerts.yml
	promtool test rules deploy/prometheus/alerts_test.yml

# The pages in Debian's Chromium, on a real service; pictures of them stay in build/pages.
test-pages: $(STAMP)
	$(call debian,chromium,chromium)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/pages/jobs.py tests/pages/management.py tests/pages/every_page.py

# The README's pictures, anew: starts a service, trains some minutes, writes docs/screenshots.
screenshots: $(STAMP)
	$(call debian,chromium,chromium)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.screenshots

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.tls.yml
	$(BIN)/hadolint Dockerfile.gpu
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes/*.yaml

# Ours and the peers side by side: an hour, and the time to loss as long again for whoever has no finished runs of it in
# benchmarks/runs. BENCH_DATA is a Parquet file of servers (benchmarks/README.md); without it the sample data.
PEERS := .venv-peers
bench: $(STAMP) $(PEERS)/.installed
	$(BIN)/python -m benchmarks.peers --peers-python $(PEERS)/bin/python $(if $(BENCH_DATA),--data $(BENCH_DATA))

# Hours. The three phases; with BENCH_DATA also how good the forecasts are.
bench-quality: $(STAMP) $(PEERS)/.installed
	$(BIN)/python -m benchmarks.phases
	$(if $(BENCH_DATA),$(BIN)/python -m benchmarks.quality --data $(BENCH_DATA) --peers-python $(PEERS)/bin/python)

$(PEERS)/.installed: benchmarks/requirements-peers.txt constraints.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/requirements-peers.txt
	touch $@

# Some minutes, and 5 GB of disk. With LOAD_POSTGRES, the URL of an empty Postgres database, that is measured too;
# with MLFLOW_PYTHON, the interpreter of an environment with benchmarks/requirements-mlflow.txt, MLflow beside ours.
load: $(STAMP)
	$(BIN)/python -m benchmarks.load $(if $(LOAD_POSTGRES),--postgres $(LOAD_POSTGRES))
	$(if $(MLFLOW_PYTHON),$(BIN)/python -m benchmarks.mlflow_comparison --mlflow-python $(MLFLOW_PYTHON))

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Needs only Python: the machine that runs docker compose need not install anything of ours.
secrets:
	$(PYTHON) deploy/make_secrets.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
