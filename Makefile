# Each target is one command; what it does is in xtask/ and .ci/.
.PHONY: demo serve test check setup
demo: ; cargo xtask demo
serve: ; cargo xtask serve
setup: ; cargo xtask setup --tests
test: setup ; cargo test --workspace
check: ; bash .ci/run
