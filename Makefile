.PHONY: test soak ci

# Everything that proves persist; installs PostgreSQL's server and PgBouncer where they are missing.
test:
	@.ci/test

# Each fuzz target for three minutes, and the long forms of the tests that have one: 1,000 kills, 50 restarts, every
# system call. Some hours; what is covered is printed.
soak:
	@.ci/fuzz
	@PERSIST_SOAK=1 PROPTEST_CASES=5000 .ci/test -- --nocapture

# What must pass before a change lands: format, lints, documentation, dependencies, tests.
ci:
	@.ci/run
