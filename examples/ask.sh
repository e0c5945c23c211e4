#!/usr/bin/env bash
# Asks every port of a running suite about a photograph, with curl.
#
#     examples/ask.sh [PHOTOGRAPH]
#
# HOST, MODEL and the ports below can be set as variables.
set -euo pipefail
photograph=${1:-photos/coffee.jpg}
host=${HOST:-localhost} model=${MODEL:-resnet18}
ask() { curl --silent --show-error --fail-with-body "$@"; }

# base64 of the file inside JSON: too long for an argument, so it goes through a pipe.
base64_json() { printf '%s' "$1" && base64 < "$photograph" | tr -d '\n' && printf '%s' "$2"; }

echo "== jpeg: the file, and base64 in JSON"
jpeg=http://$host:${JPEG_PORT:-8002}
ask --header 'content-type: image/jpeg' --data-binary @"$photograph" "$jpeg/classify?k=2"
echo
base64_json '{"images":["' '"]}' | ask --data-binary @- "$jpeg/embed/base64" | cut -c 1-60
ask "$jpeg/model-info"
echo

for lane in "onnx-http ${ONNX_HTTP_PORT:-8010}" "trt-http ${TRT_HTTP_PORT:-8020}"; do
    echo "== ${lane% *}: the file in JSON, and an FP32 tensor of zeros as bytes"
    url=http://$host:${lane#* }/v2/models/$model
    base64_json '{"inputs":[{"name":"image","datatype":"BYTES","shape":[1],"data":["' \
        '"]}],"outputs":[{"name":"logits","parameters":{"classification":2}}]}' | ask --data-binary @- "$url/infer"
    echo
    # No JSON: the whole body is the one input. The answer is JSON of the stated length, then the outputs' bytes.
    head -c $((4 * 3 * 224 * 224)) /dev/zero |
        ask --header 'inference-header-content-length: 0' --data-binary @- --dump-header - --output /dev/null "$url/infer" |
        grep -i -e '^HTTP' -e '-length' -e '^server-timing'
done

for lane in "onnx-grpc ${ONNX_GRPC_PORT:-8011}" "trt-grpc ${TRT_GRPC_PORT:-8021}"; do
    # curl writes no protobuf, but a message without fields needs none: five bytes of 0. For inference see ask.py and ask.rs.
    echo "== ${lane% *}: is it ready? The answer is a message of two bytes, 08 01: yes"
    printf '\0\0\0\0\0' |
        ask --http2-prior-knowledge --header 'content-type: application/grpc' --header 'te: trailers' --data-binary @- \
            "http://$host:${lane#* }/inference.GRPCInferenceService/ServerReady" | od -An -tx1
done

for service in "jpeg ${JPEG_PORT:-8002}" "onnx ${ONNX_METRICS_PORT:-8012}" "trt ${TRT_METRICS_PORT:-8022}"; do
    echo "== metrics of ${service% *}"
    ask "http://$host:${service#* }/metrics" | grep '^nv_inference_request_success'
done
