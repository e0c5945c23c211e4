# syntax=docker/dockerfile:1
# The CPU image: three programs and ONNX Runtime on a distroless base. No shell, no root user; works on a read-only root.

ARG RUST_IMAGE=rust:1.95-bookworm
ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${RUST_IMAGE} AS programs
# The commit that the programs report: the build context has no repository.
ARG QUINTET_COMMIT
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release -p quintet-server -p quintet-bench -p quintet-models && \
    install -D -t /out target/release/quintet-server target/release/quintet-bench target/release/quintet-models

FROM ${PYTHON_IMAGE} AS onnxruntime
COPY xtask/python/onnxruntime.txt /requirements.txt
RUN pip download --no-cache-dir --no-deps --only-binary=:all: --require-hashes \
        --dest /wheel --requirement /requirements.txt && \
    python -m zipfile --extract /wheel/onnxruntime-*.whl /unpacked && \
    install -D -m 644 -t /out /unpacked/onnxruntime/capi/libonnxruntime*.so* && \
    install -d -m 755 /folders/models /folders/results /folders/sockets

FROM ${BASE_IMAGE}
# The server looks for the library in ../lib beside itself.
COPY --from=onnxruntime /out /usr/local/lib
COPY --from=programs /out /usr/local/bin
# A new volume gets the owner of the folder that it is mounted on.
COPY --from=onnxruntime --chown=65532:65532 /folders /
USER 65532:65532
WORKDIR /
# The suite's address, and Triton mode's: outside a container both are on loopback by default.
ENV QUINTET_ADDRESS=0.0.0.0 QUINTET_HTTP_ADDRESS=0.0.0.0 QUINTET_GRPC_ADDRESS=0.0.0.0 \
    QUINTET_MODEL_REPOSITORY=/models
EXPOSE 8002 8010 8011 8012 8020 8021 8022
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=20s --start-period=10m --retries=3 CMD ["quintet-server", "health"]
ENTRYPOINT ["quintet-server"]
CMD ["suite"]
