# Each target is one command; xtask/ and .ci/ implement them. GPU=off keeps setup, demo and serve on the CPU; GPU=on has
# setup fetch the GPU's libraries on a machine without one, and GPU=rtx also TensorRT for RTX.
.PHONY: demo serve test test-gpu-library test-openvino test-models test-optional gpu-check check setup perf-analyzer bench-triton
demo: ; cargo xtask demo
serve: ; cargo xtask serve
setup: ; cargo xtask setup --tests
# The tests run on the CPU on any machine.
test: export GPU = off
test: setup ; ORT_DYLIB_PATH=$(CURDIR)/.quintet/onnxruntime cargo test --workspace
test-gpu-library: ; cargo xtask setup --tests --gpu-library && cargo test --workspace --test suite -- --ignored --nocapture gpu_library
bench-triton: ; cargo xtask bench-triton
perf-analyzer: ; cargo xtask perf-analyzer
test-openvino: export GPU = off
test-openvino: ; cargo xtask setup --tests --openvino && ORT_DYLIB_PATH=$(CURDIR)/.quintet/onnxruntime cargo test --workspace --test suite -- --ignored --nocapture openvino
test-models: ; cargo xtask test-models
test-optional: ; cargo xtask test-optional
gpu-check: ; cargo xtask gpu-check
check: ; bash .ci/run
