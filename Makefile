.PHONY: test ci

# Everything that proves persist; installs PostgreSQL's server where it is missing.
test:
	@.ci/test

# What must pass before a change lands: format, lints, documentation, dependencies, tests.
ci:
	@.ci/run
