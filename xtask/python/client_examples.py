"""Runs others' clients, unmodified, against a server: the examples of Triton's client and of OpenVINO Model Server, calls of KServe's
Python client, and Triton's perf_analyzer in its modes.

client_examples.py models FOLDER: writes the models that the examples ask for into the repositories FOLDER/triton and FOLDER/images.
client_examples.py run PORTS PORTS PHOTOGRAPH TRITON_CLIENT MODEL_SERVER PERF_ANALYZER: PORTS is HTTP,GRPC,METRICS of the server of
    each repository, TRITON_CLIENT a checkout of Triton's repository `client`, MODEL_SERVER one of `model_server`. Prints a line for each example to
    stderr, and a Markdown table of those that cannot pass here; status 1 if another one fails, or one of these passes.
client_examples.py kserve PORTS: calls of KServe's client alone, to the server of FOLDER/triton.
"""

import asyncio
import json
import pathlib
import re
import subprocess
import sys
import tempfile

# Seconds for one example: long enough for a busy machine.
LIMIT_S = 300


# The models.


def models(folder):
    """Models with the names and tensors that the examples expect: sums, identities, classifiers."""
    import onnx
    from onnx import TensorProto, helper

    def tensor(name, data_type, *dims):
        return helper.make_tensor_value_info(name, data_type, ["batch", *dims])

    def integers(name, *values):
        return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)

    def configure(name, config):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
        (folder / name / "labels.txt").write_text("".join(f"class {index}\n" for index in range(1000)))

    def write(name, nodes, inputs, outputs, config="max_batch_size: 8\n", constants=()):
        graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        configure(name, config)
        onnx.save(model, folder / name / "1" / "model.onnx")

    def sum_and_difference(name, data_type):
        ends = [tensor(end, data_type, 16) for end in ("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")]
        # Strings and INT8 are added as INT32.
        nodes = [helper.make_node("Cast", [end], [f"{end}_number"], to=TensorProto.INT32) for end in ("INPUT0", "INPUT1")]
        for operator, output in (("Add", "OUTPUT0"), ("Sub", "OUTPUT1")):
            nodes.append(helper.make_node(operator, ["INPUT0_number", "INPUT1_number"], [f"{output}_number"]))
            nodes.append(helper.make_node("Cast", [f"{output}_number"], [output], to=data_type))
        write(name, nodes, ends[:2], ends[2:])

    def identity(name, data_type):
        nodes = [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])]
        write(name, nodes, [tensor("INPUT0", data_type, "n")], [tensor("OUTPUT0", data_type, "n")])

    def means(source, axes, target):
        """Nodes from an image to scores: the mean of each channel, repeated to 1000."""
        return [
            helper.make_node("ReduceMean", [source], ["means"], axes=axes, keepdims=0),
            helper.make_node("Tile", ["means", "repeats"], ["tiled"]),
            helper.make_node("Slice", ["tiled", "begin", "end", "axis"], [target]),
        ]

    slices = [integers("repeats", 1, 334), integers("begin", 0), integers("end", 1000), integers("axis", 1)]

    # Triton's example of model control over HTTP wants exactly seven models, that over gRPC eight.
    for repository in ("triton", "images"):
        sum_and_difference(f"{repository}/simple", TensorProto.INT32)
    identity("images/simple_identity", TensorProto.STRING)
    sum_and_difference("triton/simple_int8", TensorProto.INT8)
    sum_and_difference("triton/simple_string", TensorProto.STRING)
    identity("triton/simple_identity", TensorProto.STRING)
    identity("triton/custom_identity_int32", TensorProto.INT32)
    tensors = [tensor("data_0", TensorProto.FLOAT, 3, 224, 224)], [tensor("fc6_1", TensorProto.FLOAT, 1000)]
    scores = 'output { name: "fc6_1" data_type: TYPE_FP32 dims: 1000 label_filename: "labels.txt" %s }\n'
    # One image without a batch.
    alone = 'input { name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [3, 224, 224] reshape { shape: [1, 3, 224, 224] } }\n'
    config = "max_batch_size: 0\n" + alone + scores % "reshape { shape: [1, 1000] }"
    write("triton/densenet_onnx", means("data_0", [2, 3], "fc6_1"), *tensors, config, slices)
    output = "InceptionV3/Predictions/Softmax"
    ends = [tensor("input", TensorProto.FLOAT, 299, 299, 3)], [tensor(output, TensorProto.FLOAT, 1000)]
    config = 'input { name: "input" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [299, 299, 3] }\n'
    config += f'output {{ name: "{output}" data_type: TYPE_FP32 dims: 1000 label_filename: "labels.txt" }}\n'
    write("triton/inception_graphdef", means("input", [1, 2], output), *ends, "max_batch_size: 128\n" + config, slices)

    prepared = 'parameters { key: "image_preprocess" value { string_value: "crop" } }\n'
    config = "max_batch_size: 8\n" + scores % "" + prepared
    write("images/classifier", means("data_0", [2, 3], "fc6_1"), *tensors, config, slices)
    # An ensemble from encoded images to scores.
    configure("images/preprocess", 'backend: "image"\nmax_batch_size: 8\n')
    configure("images/preprocess_inception_ensemble", """max_batch_size: 8
input { name: "INPUT" data_type: TYPE_STRING dims: 1 }
output { name: "OUTPUT" data_type: TYPE_FP32 dims: 1000 label_filename: "labels.txt" }
ensemble_scheduling {
  step { model_name: "preprocess" model_version: -1
         input_map { key: "image" value: "INPUT" } output_map { key: "pixels" value: "image" } }
  step { model_name: "classifier" model_version: -1
         input_map { key: "data_0" value: "image" } output_map { key: "fc6_1" value: "OUTPUT" } }
}
""")
    # OpenVINO Model Server's demonstrations: pixels as they are, a class as a string, strings to an embedding.
    nodes = [helper.make_node("Cast", ["gpu_0/data_0"], ["levels"], to=TensorProto.FLOAT), *means("levels", [1, 2], "gpu_0/softmax_1")]
    ends = [tensor("gpu_0/data_0", TensorProto.UINT8, 224, 224, 3)], [tensor("gpu_0/softmax_1", TensorProto.FLOAT, 1000)]
    write("images/resnet", nodes, *ends, constants=slices)
    names = helper.make_tensor("names", TensorProto.STRING, [3], [b"red", b"green", b"blue"])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ArgMax", ["means"], ["index"], axis=1, keepdims=0),
        helper.make_node("Gather", ["names", "index"], ["label"]),
    ]
    ends = [tensor("image", TensorProto.FLOAT, 3, 224, 224)], [tensor("label", TensorProto.STRING)]
    # A string for each image, not a row of one string.
    config = 'max_batch_size: 0\ninput { name: "image" data_type: TYPE_FP32 dims: [-1, 3, 224, 224] }\n'
    config += 'output { name: "label" data_type: TYPE_STRING dims: -1 }\n'
    write("images/mobile_net", nodes, *ends, config + prepared, [names])
    nodes = [
        helper.make_node("Shape", ["inputs"], ["count"]),
        helper.make_node("Concat", ["count", "width"], ["shape"], axis=0),
        helper.make_node("ConstantOfShape", ["shape"], ["outputs"]),
    ]
    ends = [tensor("inputs", TensorProto.STRING)], [tensor("outputs", TensorProto.FLOAT, 512)]
    write("images/usem", nodes, *ends, "", [integers("width", 512)])


# The examples: name, arguments, what a run that passes prints. One that cannot pass here also has the reason, and what it prints.


def of_triton(triton, images, photograph):
    """Triton's Python examples."""

    def at(ports, protocol):
        return ["-u", f"localhost:{ports[protocol]}"]

    def simple(name, printed="PASS", reason=None):
        return (f"{name}.py", at(triton, name.split("_")[1]), printed, reason)

    yield ("grpc_client.py", at(triton, "grpc"), "PASS", None)
    for name in ("byte", "int", "int8"):
        yield (f"grpc_explicit_{name}_content_client.py", at(triton, "grpc"), "PASS", None)
    for model in ("densenet_onnx", "inception_graphdef"):
        options = ["-m", model, "-s", "INCEPTION", "-c", "3", photograph]
        for extra in ([], ["-a"], ["-a", "--streaming"]):
            yield ("grpc_image_client.py", [*at(triton, "grpc"), *extra, *options], "PASS", None)
            for protocol in ("http", "grpc") if "--streaming" not in extra else ("grpc",):
                yield ("image_client.py", [*at(triton, protocol), "-i", protocol, *extra, *options], "PASS", None)
    for protocol in ("http", "grpc"):
        yield ("ensemble_image_client.py", [*at(images, protocol), "-i", protocol, photograph], "PASS", None)
        yield ("reuse_infer_objects_client.py", [*at(triton, protocol), "-i", protocol], "", None)
        for name in ("aio_infer_client", "shm_client", "shm_string_client", "string_infer_client"):
            yield simple(f"simple_{protocol}_{name}")
        # Some print no word of success.
        for name, printed in [("async_infer_client", ""), ("infer_client", "unknown model|PASS"), ("health_metadata", "simple")]:
            yield simple(f"simple_{protocol}_{name}", printed)
    yield simple("simple_grpc_custom_args_client")
    yield simple("simple_grpc_keepalive_client")
    state = "its models keep state between requests: they are refused"
    for protocol in ("http", "grpc"):
        yield simple(f"simple_{protocol}_cudashm_client", "", "it needs CUDA in the client, and CUDA regions in the server")
        for dyna in ([], ["-d"]):
            name = f"simple_{protocol}_sequence_sync_infer_client.py"
            yield (name, [*at(triton, protocol), *dyna], "unknown model", state)
    for name in ("simple_grpc_sequence_stream_infer_client", "simple_grpc_aio_sequence_stream_infer_client"):
        yield simple(name, "unknown model", state)
    # At the end: they unload a model.
    yield simple("simple_http_model_control")
    yield ("simple_grpc_model_control.py", at(images, "grpc"), "PASS", None)
    yield simple("simple_grpc_custom_repeat", "unknown model", "its model gives several answers to a request (decoupled): refused")


def of_model_server(ports, photograph, folder):
    """OpenVINO Model Server's samples of the KServe API, and its demonstrations with images and strings."""
    import numpy
    from PIL import Image

    listed, labelled, tensors = (folder / name for name in ("images.txt", "labelled.txt", "images.npy"))
    listed.write_text(f"{photograph}\n")
    labelled.write_text(f"{photograph} 0\n")
    pixels = numpy.asarray(Image.open(photograph).convert("RGB").resize((224, 224)), numpy.float32)
    numpy.save(tensors, numpy.stack([pixels, pixels]))
    model = ["--model_name=classifier", "--input_name=data_0", "--output_name=fc6_1"]
    samples = "client/python/kserve-api/samples"
    for protocol in ("http", "grpc"):
        port = f"--{protocol}_port={ports[protocol]}"
        for call, printed in [("server_live", "Live: True"), ("server_ready", "Ready: True"), ("server_metadata", "triton")]:
            yield (f"{samples}/{protocol}_{call}.py", [port], printed, None)
        for call, printed in [("model_ready", "Ready: True"), ("model_metadata", "data_0")]:
            yield (f"{samples}/{protocol}_{call}.py", [port, model[0]], printed, None)
        for call in ("infer", "async_infer"):
            options = [port, f"--images_numpy_path={tensors}", *model]
            yield (f"{samples}/{protocol}_{call}_resnet.py", options, "classification|imagenet", None)
        yield (f"{samples}/{protocol}_infer_binary_resnet.py", [port, f"--images_list={labelled}", *model], "orrect match", None)
    grpc = f"--grpc_port={ports['grpc']}"
    own = "it calls `InferResult.get_output` without a name, which `tritonclient` 2.73 does not take: it fails after the answer"
    yield ("demos/image_classification/python/image_classification.py", [grpc, f"--images_list={labelled}", *model],
           r"missing 1 required positional argument: 'name'", own)
    string_output = "demos/image_classification_with_string_output/image_classification_with_string_output.py"
    yield (string_output, [f"--http_port={ports['http']}", f"--images_list={listed}"], "classified  as (red|green|blue)", None)
    options = ["--service_url", f"localhost:{ports['grpc']}", "--image_path", photograph]
    yield ("demos/using_onnx_model/python/onnx_model_demo.py", options, "Detected class name", None)
    yield ("demos/universal-sentence-encoder/send_strings.py", [grpc, "--string=word"], r"Output shape \(1, 512\)", None)


# KServe's client.


async def kserve(http, grpc, **_):
    """Calls of KServe's Python client over both protocols; prints a line for each."""
    import numpy
    from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
    from kserve.inference_client import RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    url = f"http://localhost:{http}"
    numbers = numpy.arange(16, dtype=numpy.int32).reshape(1, 16)
    words = numpy.array([[b"one", b"two"]], dtype=object)

    def request(model, values, binary, **options):
        inputs = []
        for index, value in enumerate(values):
            datatype = "INT32" if value.dtype == numpy.int32 else "BYTES"
            tensor = InferInput(f"INPUT{index}", list(value.shape), datatype)
            tensor.set_data_from_numpy(value, binary_data=binary)
            inputs.append(tensor)
        return InferRequest(model_name=model, infer_inputs=inputs, request_id="7", **options)

    async def check(name, call, expected=True):
        try:
            found = await call
            found = [output.as_numpy().tolist() for output in found.outputs] if hasattr(found, "outputs") else found
            print(f"{name}: {'PASS' if found == expected else f'{found} instead of {expected}'}")
        except Exception as error:  # Whatever the client raises is the result.
            print(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")

    sums = [(numbers + numbers).tolist(), (numbers - numbers).tolist()]
    rest = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    await check("REST is_server_live", rest.is_server_live(url))
    await check("REST is_server_ready", rest.is_server_ready(url))
    await check("REST is_model_ready", rest.is_model_ready(url, "simple"))
    for binary in (False, True):
        form = "binary" if binary else "JSON"
        call = rest.infer(url, request("simple", [numbers, numbers], binary), model_name="simple")
        await check(f"REST infer, {form}", call, sums)
        options = {"request_outputs": [RequestedOutput("OUTPUT0", {"binary_data": binary})]}
        call = rest.infer(url, request("simple", [numbers, numbers], binary, **options), model_name="simple")
        await check(f"REST infer, {form}, one output", call, sums[:1])
    texts = [["one", "two"]], [[b"one", b"two"]]
    await check("REST infer, BYTES", rest.infer(url, request("simple_identity", [words], True), model_name="simple_identity"), [texts[0]])
    client = InferenceGRPCClient(f"localhost:{grpc}")
    await check("gRPC is_server_live", client.is_server_live())
    await check("gRPC is_server_ready", client.is_server_ready())
    await check("gRPC is_model_ready", client.is_model_ready("simple"))
    await check("gRPC infer, contents", client.infer(request("simple", [numbers, numbers], False)), sums)
    await check("gRPC infer, raw", client.infer(request("simple", [numbers, numbers], True)), sums)
    await check("gRPC infer, BYTES", client.infer(request("simple_identity", [words], True)), [texts[1]])
    await client.close()
    await rest.close()


# What KServe's client cannot do here, and why.
EMPTY = "it expects a JSON body; health has none here, as in Triton, and KServe's own `is_model_ready` expects none"
KSERVE_CANNOT = {"REST is_server_live": EMPTY, "REST is_server_ready": EMPTY}


# perf_analyzer.


def of_perf_analyzer(ports, folder):
    """Its modes with their flags, each over HTTP and gRPC where it has both."""
    numbers = {f"INPUT{index}": [index + number for number in range(16)] for index in range(2)}
    outputs = {"OUTPUT0": [2 * number + 1 for number in range(16)], "OUTPUT1": [-1] * 16}
    words = {name: [str(number) for number in values] for name, values in numbers.items()}
    files = {
        "numbers": {"data": [numbers, numbers]},
        "validated": {"data": [numbers], "validation_data": [outputs]},
        "words": {"data": [words]},
        "shaped": {"data": [{"INPUT0": {"content": list("abcd"), "shape": [4]}}]},
    }
    paths = {name: folder / f"{name}.json" for name in files}
    for name, data in files.items():
        paths[name].write_text(json.dumps(data))
    intervals = folder / "intervals.txt"
    intervals.write_text("20000\n30000\n50000\n")
    simple, strings, identity = (["-m", name] for name in ("simple", "simple_string", "simple_identity"))
    modes = [
        [*simple, "--concurrency-range=4"],
        [*simple, "-a", "--concurrency-range=8"],
        [*simple, "--request-rate-range=50"],
        [*simple, "--request-rate-range=50", "--request-distribution=poisson"],
        [*simple, f"--request-intervals={intervals}"],
        [*simple, "-b", "4"],
        [*simple, f"--input-data={paths['numbers']}"],
        [*simple, f"--input-data={paths['validated']}"],
        [*simple, "--shared-memory=system"],
        [*simple, "--shared-memory=system", f"--input-data={paths['numbers']}"],
        [*strings, "--string-data=5"],
        [*strings, f"--input-data={paths['words']}"],
        [*strings, "--string-data=5", "--shared-memory=system", "--output-shared-memory-size=4096"],
        [*identity, "--shape=INPUT0:4", "--string-length=16"],
        [*identity, f"--input-data={paths['shaped']}"],
        ["-m", "densenet_onnx", "--input-data=zero"],
        [*simple, "-H", "x-test:1"],
        [*simple, "--collect-metrics", f"--metrics-url=localhost:{ports['metrics']}/metrics"],
        [*simple, "--trace-level=TIMESTAMPS", "--trace-rate=100", "--trace-count=5", "--log-frequency=0"],
    ]
    once = {
        "http": [
            [*simple, "--input-tensor-format=json", "--output-tensor-format=json"],
            [*strings, "--input-tensor-format=json", "--output-tensor-format=json", "--string-data=7"],
        ],
        "grpc": [
            [*simple, "-a", "--streaming"],
            [*simple, "-a", "--streaming", "--request-rate-range=50"],
            [*simple, "-a", "--streaming", "--shared-memory=system"],
            [*simple, "--grpc-compression-algorithm=gzip"],
            [*simple, "--grpc-compression-algorithm=deflate"],
        ],
    }
    for protocol in ("http", "grpc"):
        for mode in [*modes, *once[protocol]]:
            yield ["-i", protocol, "-u", f"localhost:{ports[protocol]}", *mode, "--request-count=50"], "throughput: ", None
    start = ["-i", "grpc", "-u", f"localhost:{ports['grpc']}", *simple]
    yield [*start, "--shared-memory=cuda"], "gpu", "it needs CUDA in the client, and CUDA regions in the server"
    periodic = [*start, "-a", "--streaming", "--periodic-concurrency-range=1:4:1", "--request-period=10"]
    yield [*periodic, f"--profile-export-file={folder}/profile.json"], "final response", "it needs several answers to a request"


def run(command, folder=None):
    """Runs an example in its own folder, from which some look for their helpers."""
    command = [*map(str, command)]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"not ended after {LIMIT_S} s")


def results(triton_ports, images_ports, photograph, triton, model_server, perf_analyzer, folder):
    """Runs every example; yields whose it is, its command, why it cannot pass here if it cannot, and what was wrong."""
    ended = run([sys.executable, __file__, "kserve", ",".join(triton_ports.values())])
    if ended.returncode != 0:
        yield "KServe", "the whole client", None, ended.stderr
    for line in ended.stdout.splitlines():
        name, result = line.split(": ", 1)
        reason = KSERVE_CANNOT.get(name)
        yield "KServe", name, reason, None if (result == "PASS") == (reason is None) else result
    for arguments, printed, reason in of_perf_analyzer(triton_ports, folder):
        yield "perf_analyzer", *judged(arguments, run([perf_analyzer, *arguments]), printed, reason)
    sources = [
        ("Triton", triton / "src/python/examples", of_triton(triton_ports, images_ports, photograph)),
        ("OpenVINO Model Server", model_server, of_model_server(images_ports, photograph, folder)),
    ]
    for source, root, cases in sources:
        for name, arguments, printed, reason in cases:
            path = root / name
            ended = run([sys.executable, path.name, *arguments], path.parent)
            yield source, *judged([path.name, *arguments], ended, printed, reason)


def judged(command, ended, printed, reason):
    """The command, the reason why it cannot pass if it cannot, and what was wrong."""
    output = ended.stdout + ended.stderr
    as_expected = (ended.returncode == 0) == (reason is None) and re.search(printed, output)
    fault = None if as_expected else f"status {ended.returncode}\n{output}"
    return " ".join(map(shortened, command)), reason, fault


def shortened(argument):
    """An argument without this run's paths and ports."""
    return re.sub(r"(^|=)/.*/", r"\1", re.sub(r"(?<=[:=])\d{4,5}(?=$|/)", "PORT", str(argument)))


def main(*arguments):
    """Prints the table; returns whether everything was as expected."""
    rows, passed, wrong = [], 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for source, command, reason, fault in results(*arguments, pathlib.Path(folder)):
            print(f"{source}: {command}: {fault or ('as expected, not' if reason else 'passes')}", file=sys.stderr)
            wrong += fault is not None
            passed += fault is None and reason is None
            if reason:
                rows.append(f"| {source} | `{command}` | {reason} |")
    print("\n".join(["| of | cannot pass | because |", "|---|---|---|", *rows]))
    print(f"\n{passed} pass, {len(rows)} cannot pass here, {wrong} are not as expected")
    return wrong == 0


def ports(text):
    return dict(zip(("http", "grpc", "metrics"), text.split(",")))


match sys.argv[1:]:
    case ["models", folder]:
        models(pathlib.Path(folder))
    case ["kserve", of_triton_models]:
        asyncio.run(kserve(**ports(of_triton_models)))
    case ["run", of_triton_models, of_images, *paths] if len(paths) == 4:
        paths = [pathlib.Path(path).resolve() for path in paths]
        sys.exit(not main(ports(of_triton_models), ports(of_images), str(paths[0]), *paths[1:]))
    case _:
        sys.exit(__doc__)
