"""Measures one server with quintet-bench, perf_analyzer and oha in turns, and prints their percentiles side by side.

peers_clients.py MODEL ROUNDS REQUESTS HTTP_PORT GRPC_PORT METRICS_PORT BENCH PERF_ANALYZER OHA

MODEL takes one FP32 image [3, 224, 224], as quintet-models builds it. In each round every client sends REQUESTS requests
over every protocol that it speaks, at 1 and at 8 in flight; the order changes from round to round. The figure of a client
is the median of its rounds, and the ratio that of the rounds' ratios to quintet-bench. An empty OHA or PERF_ANALYZER leaves
that client out. Progress goes to stderr.
"""

import csv
import gzip
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

MODEL = sys.argv[1]
ROUNDS, REQUESTS = int(sys.argv[2]), int(sys.argv[3])
PORTS = dict(zip(("http", "grpc", "metrics"), map(int, sys.argv[4:7])))
BENCH, PERF_ANALYZER, OHA = sys.argv[7:10]
QUANTILES = (50, 90, 99)
IN_FLIGHT = (1, 8)
IMAGE_BYTES = 3 * 224 * 224 * 4


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def quantiles_ms(latencies_us):
    cuts = statistics.quantiles(latencies_us, n=100, method="inclusive")
    return [cuts[quantile - 1] / 1e3 for quantile in QUANTILES]


def quintet_bench(protocol, in_flight, folder):
    lane = f"onnx-{protocol}"
    command = [BENCH, "run", "--model", MODEL, f"--onnx-metrics-url=http://127.0.0.1:{PORTS['metrics']}"]
    command += [f"--{lane}-url=http://127.0.0.1:{PORTS[protocol]}", f"--output={folder}", "--blocks=1", "--ramp=0s"]
    command += ["--skip", f"jpeg,trt,onnx-{'grpc' if protocol == 'http' else 'http'}"]
    if in_flight == 1:
        command += ["--batches=1", f"--iterations={REQUESTS}", "--concurrency"]
    else:
        # The window ends when the requests are sent; like the others, it has no ramp.
        command += ["--batches", f"--concurrency={in_flight}", "--duration=600s", f"--max-window-requests={REQUESTS}"]
    run(command)
    samples = next(pathlib.Path(folder).glob("*/samples.json.gz"))
    with gzip.open(samples, "rt", encoding="utf-8") as file:
        [cell] = json.load(file)["cells"]
    latency_us, nanoseconds = [], 0
    for delta in cell["latency_ns"]:
        nanoseconds += delta
        latency_us.append(nanoseconds / 1e3)
    return quantiles_ms(latency_us)


def perf_analyzer(protocol, in_flight, folder):
    report = pathlib.Path(folder) / "report.csv"
    command = [PERF_ANALYZER, "-m", MODEL, "-i", protocol, "-u", f"127.0.0.1:{PORTS[protocol]}", "-b", "1", "-f", report]
    command += [f"--concurrency-range={in_flight}", f"--request-count={REQUESTS}"]
    run(command)
    with open(report, encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    return [float(row[f"p{quantile} latency"]) / 1e3 for quantile in QUANTILES]


def infer_body():
    """A request with one image in binary, as KServe's binary extension has it, and the length of its JSON."""
    tensor = {"name": "image", "shape": [1, 3, 224, 224], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": IMAGE_BYTES}}]}).encode()
    return head + bytes(IMAGE_BYTES), len(head)


def oha(protocol, in_flight, folder):
    body, head_bytes = infer_body()
    file = pathlib.Path(folder) / "body"
    file.write_bytes(body)
    command = [OHA, "--no-tui", "--output-format", "json", "-m", "POST", "-D", file]
    command += ["-H", f"Inference-Header-Content-Length: {head_bytes}", "-n", str(REQUESTS), "-c", str(in_flight)]
    result = json.loads(run([*command, f"http://127.0.0.1:{PORTS[protocol]}/v2/models/{MODEL}/infer"]))
    if result["statusCodeDistribution"] != {"200": REQUESTS}:
        sys.exit(f"oha: not all of {REQUESTS} requests succeeded: {result['statusCodeDistribution']}")
    return [result["latencyPercentiles"][f"p{quantile}"] * 1e3 for quantile in QUANTILES]


def main():
    measured = [(quintet_bench, "http"), (quintet_bench, "grpc")]
    if PERF_ANALYZER:
        measured += [(perf_analyzer, "http"), (perf_analyzer, "grpc")]
    if OHA:
        measured += [(oha, "http")]
    rounds = {}
    for number in range(ROUNDS):
        turn = number % len(measured)
        for in_flight in IN_FLIGHT:
            for client, protocol in measured[turn:] + measured[:turn]:
                print(f"round {number + 1} of {ROUNDS}: {client.__name__}, {protocol}, {in_flight} in flight", file=sys.stderr)
                with tempfile.TemporaryDirectory() as folder:
                    found = client(protocol, in_flight, folder)
                rounds.setdefault((protocol, in_flight, client.__name__), []).append(found)
    print(f"{MODEL}: {ROUNDS} rounds of {REQUESTS} requests with one image, one server, clients in turns\n")
    print("| protocol | in flight | client | " + " | ".join(f"p{q} (ms) | / quintet-bench" for q in QUANTILES) + " |")
    print("|---|--:|---|" + "--:|" * 2 * len(QUANTILES))
    for protocol, in_flight, client in sorted(rounds, key=lambda key: (key[0], key[1])):
        own, others = rounds[protocol, in_flight, "quintet_bench"], rounds[protocol, in_flight, client]
        cells = []
        for quantile in range(len(QUANTILES)):
            cells.append(f"{statistics.median(found[quantile] for found in others):.2f}")
            ratio = statistics.median(theirs[quantile] / ours[quantile] for theirs, ours in zip(others, own))
            cells.append(f"{ratio:.2f}")
        print(f"| {protocol} | {in_flight} | {client.replace('_', '-')} | {' | '.join(cells)} |")


main()
