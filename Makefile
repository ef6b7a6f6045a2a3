.PHONY: test soak ci demo

# Everything that proves persist; installs PostgreSQL's server, PgBouncer and Chromium where they are missing.
test:
	@.ci/test

# An orchestrator at work on a store of its own, and its pages; Ctrl-C ends both.
demo:
	@examples/demo

# Each fuzz target for three minutes, and the long forms of the tests that have one: 1,000 kills, 50 restarts, every
# system call. Some hours; what is covered is printed.
soak:
	@.ci/fuzz
	@PERSIST_SOAK=1 PROPTEST_CASES=5000 .ci/test -- --nocapture

# What must pass before a change lands: format, lints, documentation, dependencies, tests.
ci:
	@.ci/run
