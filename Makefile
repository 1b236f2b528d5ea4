# Everything that is done with this project, by hand or by a machine. `make` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PYTHONDONTWRITEBYTECODE := 1
export PATH := $(HOME)/.cargo/bin:$(PATH)

DEMO_DATE := $(or $(DATE),2026-01-01)
COLDSTART := target/release/coldstart
DEMO := target/demo

.PHONY: help setup build lake demo run test check airflow docs wheel page bench bench-trees bench-score bench-student bench-relevance bench-pooled bench-scale teachers faults faults-long fuzz cluster cluster-scale clean lakehouse lakehouse-test

help: ## lists these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: .onnxruntime/.done ## installs the pinned Python environment (.venv) and ONNX Runtime's library (.onnxruntime)

.venv/.done: fixtures/requirements.txt fixtures/setup.sh
	@fixtures/setup.sh .venv fixtures/requirements.txt

# the library is inside the wheel, under a name with its version
.onnxruntime/.done: .venv/.done
	@mkdir -p .onnxruntime
	@library=$$(find .venv/lib/python*/site-packages/onnxruntime/capi -name 'libonnxruntime.so.*' -o -name 'libonnxruntime.[0-9]*.dylib' | head -n 1); \
	[ -n "$$library" ] || { echo "setup: the onnxruntime wheel has no libonnxruntime" >&2; exit 1; }; \
	case $$library in *.dylib) name=libonnxruntime.dylib ;; *) name=libonnxruntime.so ;; esac; \
	ln -sfn "../$$library" ".onnxruntime/$$name"
	@touch $@

target/bench/venv/.done: fixtures/bench/requirements.txt fixtures/setup.sh
	@fixtures/setup.sh target/bench/venv fixtures/bench/requirements.txt

target/cluster/venv/.done: fixtures/cluster/requirements.txt fixtures/setup.sh
	@fixtures/setup.sh target/cluster/venv fixtures/cluster/requirements.txt

target/airflow/venv/.done: fixtures/airflow/requirements.txt fixtures/setup.sh
	@fixtures/setup.sh target/airflow/venv fixtures/airflow/requirements.txt

build:
	cargo build --release --locked

lake: ## writes the embedded lake that the demo runs on
	rm -rf $(DEMO)/lake
	cargo run --release --locked --quiet --example lake -- $(DEMO)/lake --bundles fixtures/teachers

demo: setup build lake ## the whole job on the embedded lake: makes it, runs it, shows what came out
	rm -rf $(DEMO)/out
	$(COLDSTART) run pipelines/demo.toml --date $(DEMO_DATE)
	@.venv/bin/python fixtures/show.py $(DEMO)/out $(DEMO_DATE)

run: setup build ## the whole job on your pipeline: make run PIPELINE=my.toml DATE=2026-01-01
	$(COLDSTART) run $(or $(PIPELINE),$(error make run needs PIPELINE=FILE)) --date $(or $(DATE),$(error make run needs DATE=YYYY-MM-DD))

test: setup ## all tests
	cargo test --release --locked

check: ## formatting, lints, documentation and the direction of imports, all of them without a warning
	python3 tests/layers.py
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --document-private-items

docs: demo ## runs every command and query of the pages for analysts and operators, on the demo
	.venv/bin/python fixtures/pipeline_page.py --check
	.venv/bin/python tests/docs.py $(COLDSTART) docs/analysts.md docs/operators.md

wheel: setup build lake ## a wheel with the program, installed in an empty environment and run from another directory
	.venv/bin/python packaging/wheel/build.py $(COLDSTART) target/wheel --try pipelines/demo.toml $(DEMO_DATE)

page: docs ## the demo's pages in a real Chromium: no error of an accessibility checker, no network; apt-get install chromium
	.venv/bin/python tests/page.py $(DEMO)/out/_runs/courier-accounts/ds=2026-01-0[13]/report.html

bench: setup target/bench/venv/.done build ## speed and memory beside today's Python, on accounts made for it (ROWS="1000000 4000000")
	target/bench/venv/bin/python fixtures/bench/run.py --bin $(COLDSTART) $(if $(ROWS),--rows $(ROWS))

bench-scale: setup target/bench/venv/.done build ## how the job grows: 16,000,000 accounts beside 1,000,000, 500 features beside 50, 2,000 accounts
	target/bench/venv/bin/python fixtures/bench/scale.py --bin $(COLDSTART)

ACCOUNTS := target/bench/accounts-1000000

target/bench/accounts-%: | target/bench/venv/.done
	rm -rf $@.half
	target/bench/venv/bin/python fixtures/bench/workload.py $@.half --rows $*
	mv $@.half $@

# a peer that not every machine can install; without it its ratio is null
target/bench/venv/.lleaves: target/bench/venv/.done fixtures/bench/lleaves.txt
	@target/bench/venv/bin/python -m pip install --quiet --requirement fixtures/bench/lleaves.txt || echo "bench-trees: lleaves cannot be installed here" >&2
	@touch $@

bench-trees: target/bench/venv/.done target/bench/venv/.lleaves ## rows per second of tree teachers beside LightGBM, XGBoost, ONNX Runtime and lleaves
	cargo build --release --locked --example score_trees
	target/bench/venv/bin/python fixtures/bench/trees.py --ours target/release/examples/score_trees --work target/bench/trees

bench-score: target/bench/venv/.done build $(ACCOUNTS) ## the score stage beside a bare read of the same columns plus the teachers' own time
	cargo build --release --locked --example score_stage
	target/bench/venv/bin/python fixtures/bench/score.py $(ACCOUNTS) --bin $(COLDSTART) --parts target/release/examples/score_stage

bench-student: target/bench/venv/.done $(ACCOUNTS) ## time and fidelity of the student beside scikit-learn
	cargo build --release --locked --example fit_student
	target/bench/venv/bin/python fixtures/bench/student.py $(ACCOUNTS) --bin target/release/examples/fit_student

bench-relevance: target/bench/venv/.done build ## time and memory of training the relevance calculator on ten histories of 100,000 rows
	target/bench/venv/bin/python fixtures/bench/train_relevance.py target/bench/relevance --bin $(COLDSTART)

bench-pooled: target/bench/venv/.done build ## the fit of the pooled teacher beside LightGBM's on the same rows (POOLED=folder with data sets)
	target/bench/venv/bin/python fixtures/bench/pooled.py $(POOLED) --bin $(COLDSTART)

teachers: setup target/bench/venv/.done build ## makes the committed teachers and their reference predictions anew
	cargo run --release --locked --quiet --example lake -- target/lakes/risk
	cargo run --release --locked --quiet --example lake -- target/lakes/abuse --family abuse
	target/bench/venv/bin/python fixtures/teachers/train.py target/lakes/risk target/lakes/abuse
	target/bench/venv/bin/python -m pip install --quiet --requirement fixtures/shapes/requirements.txt
	OMP_NUM_THREADS=1 target/bench/venv/bin/python fixtures/shapes/make.py
	$(MAKE) lake
	rm -rf $(DEMO)/studio
	$(COLDSTART) run fixtures/teachers/studio.pipeline.toml --date 2025-12-31
	mkdir -p fixtures/teachers/studio
	cp $(DEMO)/studio/student/ds=2025-12-31/{teacher.toml,model.json} fixtures/teachers/studio/
	printf '\n[history]\naccounts = "history.parquet"\nlabel = "label"\nheld_out = "held_out"\n' >> fixtures/teachers/studio/teacher.toml

faults: setup ## the faults that a scheduled job must survive, those that take seconds
	@.venv/bin/python fixtures/faults.py

faults-long: setup ## the same with real kills at random points; takes minutes
	@.venv/bin/python fixtures/faults.py --long

lakehouse: ## builds the program that also has Delta tables and object stores (docs/lakehouse.md), in place of the one that has not
	cargo build --release --locked --features lakehouse

target/lakehouse/venv/.done: fixtures/lakehouse/requirements.txt fixtures/setup.sh
	@fixtures/setup.sh target/lakehouse/venv fixtures/lakehouse/requirements.txt

lakehouse-test: setup target/lakehouse/venv/.done lakehouse ## Delta tables and an S3 server, in and out (ONLY=parts of cases' names, with commas, ROUNDS=4 of the cases that play with chance)
	@[ -d $(DEMO)/lake ] || $(MAKE) lake
	@target/lakehouse/venv/bin/python fixtures/lakehouse/run.py --bin $(COLDSTART) --lake $(DEMO)/lake --only "$(ONLY)" --rounds "$(or $(ROUNDS),4)"

FUZZED := $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))

# what is found goes to target/fuzz; a crash is mended and its input added to tests/fuzz/corpus
fuzz: ## fuzzes every parser of untrusted bytes, SECONDS=60 each; needs the nightly toolchain and cargo-fuzz (ONLY="onnx student")
	cargo +nightly fuzz build --fuzz-dir tests/fuzz --target-dir target/fuzz --release --debug-assertions
	@for target in $(or $(ONLY),$(FUZZED)); do \
	  mkdir -p target/fuzz/found/$$target target/fuzz/crashes/$$target; \
	  echo "fuzzing $$target"; \
	  nice -n 10 target/fuzz/*/release/$$target -max_total_time=$(or $(SECONDS),60) -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -print_final_stats=1 \
	    -artifact_prefix=target/fuzz/crashes/$$target/ target/fuzz/found/$$target tests/fuzz/corpus/$$target 2>&1 \
	    | grep -E 'SUMMARY|panicked|ERROR|crash-|oom-|timeout-|stat::number_of_executed_units|DONE' || exit 1; \
	done

airflow: setup target/airflow/venv/.done build lake ## the shipped DAG under a real Airflow; takes minutes (ARGO_SCHEMA=FILE also checks the Argo workflow)
	target/airflow/venv/bin/python fixtures/airflow/run.py --bin $(COLDSTART) --lake $(DEMO)/lake --work target/airflow \
		$(if $(ARGO_SCHEMA),--argo-schema $(ARGO_SCHEMA))

cluster: setup target/cluster/venv/.done build ## the demo's job in units of work by processes and by a real Spark, killed in each stage; needs a JVM
	rm -rf target/cluster/lake
	cargo run --release --locked --quiet --example lake -- target/cluster/lake --rows 300000 --bundles fixtures/teachers
	ORT_DYLIB_PATH=$(CURDIR)/$$(ls .onnxruntime/libonnxruntime.*) target/cluster/venv/bin/python fixtures/cluster/run.py --bin $(COLDSTART) --lake target/cluster/lake --work target/cluster/runs

# LARGE=64000000 takes 4 GB of disk and a quarter of an hour of two cores
cluster-scale: setup target/bench/venv/.done build target/bench/accounts-1000000 target/bench/accounts-4000000 ## units of 1 to 64 beside a run, two workers beside one, what a worker holds (LARGE=rows of many accounts)
	target/bench/venv/bin/python fixtures/cluster/scale.py --bin $(COLDSTART) --data target/bench/accounts-1000000 --same 1,7,64 --pairs 0
	target/bench/venv/bin/python fixtures/cluster/scale.py --bin $(COLDSTART) --data target/bench/accounts-4000000 --units 16 --pairs 3
	@[ -z "$(LARGE)" ] || { \
	for rows in 1000000 $(LARGE); do \
	target/bench/venv/bin/python fixtures/cluster/large.py target/bench/accounts-1000000 target/bench/large --rows $$rows; \
	target/bench/venv/bin/python fixtures/cluster/scale.py --bin $(COLDSTART) --data target/bench/large --units $$((rows / 250000)) --first 4; \
	done; rm -rf target/bench/large; }

clean: ## removes what this project has built, made and installed
	rm -rf target .venv .onnxruntime
