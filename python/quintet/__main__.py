"""`quintet demo`, `quintet serve` and `quintet bench`: the three programs, with the model and the ports that they share."""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

LISTENERS = ["jpeg", "onnx-http", "onnx-grpc", "onnx-metrics", "trt-http", "trt-grpc", "trt-metrics"]


def program(name):
    """The path of a program of this wheel."""
    return os.path.join(sysconfig.get_path("scripts"), name)


def models():
    """The model repository: QUINTET_MODEL_REPOSITORY, else a folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return os.environ.get("QUINTET_MODEL_REPOSITORY") or str(Path(cache, "quintet", "models"))


def suite(arch):
    """Builds a model with random weights unless it is there; returns the command that serves it on five lanes."""
    build = [program("quintet-models"), "build", f"--arch={arch}", "--variants=fp32", f"--output={models()}"]
    subprocess.run(build, check=True, stdout=sys.stderr)
    return [program("quintet-server"), "suite", f"--model-repository={models()}", f"--model={arch}"]


def demo(arch, flags):
    """Serves a model on free ports and shows what the network costs; on a terminal it serves on until Ctrl-C, for its page.

    Returns the benchmark's exit status.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "ports.json")
        command = [*suite(arch), *(f"--{listener}-port=0" for listener in LISTENERS), f"--ports-file={file}"]
        with subprocess.Popen(command) as server:
            try:
                while not file.exists():
                    if server.poll() is not None:
                        sys.exit(f"error: the server ended before it was ready, with status {server.returncode}")
                    time.sleep(0.05)
                ports = json.loads(file.read_text(encoding="utf-8"))
                urls = [f"--{listener}-url=http://127.0.0.1:{port}" for listener, port in ports.items()]
                bench = [program("quintet-bench"), "demo", f"--model={arch}", *urls, *flags]
                status = subprocess.run(bench, check=False).returncode
                if status == 0 and sys.stdin.isatty() and sys.stderr.isatty():
                    print(f"the page, until Ctrl-C: http://127.0.0.1:{ports['jpeg']}/", file=sys.stderr)
                    server.wait()
                return status
            finally:
                server.terminate()


def main():
    """The command line."""
    parser = argparse.ArgumentParser(prog="quintet", description="Serves image models on five lanes, and measures them.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser("demo", help="serve a ResNet-18 with random weights and show what the network costs")
    demo_parser.add_argument("--quick", action="store_true", help="few requests: that everything works, not what is faster")
    serve_parser = commands.add_parser("serve", help="serve five lanes on their default ports until Ctrl-C")
    for sub, arch in [(demo_parser, "resnet18"), (serve_parser, "resnet50")]:
        sub.add_argument("--arch", default=arch, help="resnet18, 34, 50, 101 or 152 (%(default)s)")
    demo_parser.epilog = "More flags are those of `quintet-bench demo`."
    serve_parser.epilog = "More flags are those of `quintet-server suite`."
    commands.add_parser("bench", help="quintet-bench: its commands and flags follow", add_help=False)
    arguments, flags = parser.parse_known_args()
    try:
        if arguments.command == "demo":
            sys.exit(demo(arguments.arch, [*(["--quick"] if arguments.quick else []), *flags]))
        command = suite(arguments.arch) + flags if arguments.command == "serve" else [program("quintet-bench"), *flags]
        sys.stdout.flush()
        os.execv(command[0], command)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
