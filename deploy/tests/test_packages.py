"""Builds the wheel, installs it into a fresh environment and runs the demo from it; checks the unit of the Debian package, man
pages and completions."""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
import venv
import zipfile
from pathlib import Path

from support import ROOT, from_package, on_path, quintet, read, run

PROGRAMS = ["quintet-server", "quintet-bench", "quintet-models"]
LANES = {"jpeg", "onnx-http", "onnx-grpc", "trt-http", "trt-grpc"}
UNIT = ROOT / "deploy/debian/quintet.service"


def pins(name):
    """The packages of a requirements file, each with its version."""
    return re.findall(r"^[\w-]+==[\w.]+", read("xtask/python", name), re.M)


class Wheel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        programs = quintet("quintet-server").parent
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", f"--wheel-dir={folder}"]
        environment = os.environ | {"QUINTET_PROGRAMS": str(programs)}
        run(sys.executable, "-m", "pip", "wheel", *options, ROOT / "python", env=environment)
        [cls.wheel] = folder.glob("*.whl")

    def test_one_file_has_the_programs_for_any_python_3(self):
        version = tomllib.loads(read("Cargo.toml"))["workspace"]["package"]["version"]
        self.assertRegex(self.wheel.name, rf"^quintet_suite-{version}-py3-none-(manylinux_2_\d+|macosx_14_0)_\w+\.whl$")
        with zipfile.ZipFile(self.wheel) as archive:
            names = set(archive.namelist())
        self.assertLessEqual({f"quintet_suite-{version}.data/scripts/{name}" for name in PROGRAMS}, names)
        self.assertEqual({name.split("/")[0].split(".")[0] for name in names}, {"quintet", "quintet_suite-0"})

    @unittest.skipUnless(sys.platform == "linux", "glibc is Linux's")
    def test_the_platform_is_the_oldest_with_all_symbols(self):
        minor = int(re.search(r"manylinux_2_(\d+)_", self.wheel.name)[1])
        symbols = run("objdump", "--dynamic-syms", *(quintet(name) for name in PROGRAMS))
        self.assertEqual(minor, max(int(found) for found in re.findall(r"GLIBC_2\.(\d+)", symbols)))

    def test_its_requirements_are_those_of_make_setup(self):
        project = tomllib.loads(read("python/pyproject.toml"))["project"]
        self.assertEqual(project["dependencies"], pins("onnxruntime.txt"))
        self.assertEqual(project["optional-dependencies"]["gpu"], pins("gpu.txt"))

    def test_the_demo_runs_from_a_fresh_environment(self):
        with tempfile.TemporaryDirectory() as root:
            environment = Path(root, "environment")
            venv.create(environment, with_pip=True)
            run(environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", self.wheel)
            # Nothing but the environment tells the programs where ONNX Runtime is.
            clean = {"PATH": "/usr/bin:/bin", "HOME": root}
            command = [environment / "bin/quintet", "demo", "--quick"]
            demo = subprocess.run(command, env=clean, cwd=root, capture_output=True, text=True, check=False)
            self.assertEqual(demo.returncode, 0, demo.stderr)
            self.assertIn(f"{environment}/lib/", demo.stderr)
            self.assertRegex(demo.stderr, r"site-packages/onnxruntime/capi/libonnxruntime\.")
            reports = [json.loads(file.read_text(encoding="utf-8")) for file in Path(root, "results").glob("*/report.json")]
            self.assertEqual(len(reports), 2)
            for report in reports:
                self.assertEqual({cell["lane"] for cell in report["cells"]}, LANES)
            self.assertRegex(demo.stdout, r"loopback.*rtt=35ms,up=20mbit")
            self.assertRegex(demo.stdout, r"fresh ÷ reused \d")
            help_text = run(environment / "bin/quintet", "bench", "run", "--help", env=clean)
            self.assertIn("--preset", help_text)


class Debian(unittest.TestCase):
    @unittest.skipUnless(on_path("systemd-analyze"), "no systemd-analyze on PATH")
    def test_the_unit_is_hardened(self):
        # 2.0 of 10: the network is what it serves.
        run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", UNIT)

    def test_the_unit_waits_for_the_server_and_lets_it_drain(self):
        unit = UNIT.read_text(encoding="utf-8")
        self.assertIn("\nType=notify\n", unit)
        timeout = re.search(r"QUINTET_EXIT_TIMEOUT_SECS=(\d+)", read(".env.example"))
        self.assertGreater(int(re.search(r"TimeoutStopSec=(\d+)\n", unit)[1]), int(timeout[1]))
        self.assertIn(f"GPU_FAILED: u8 = {re.search('# Status (.) is a failed GPU', unit)[1]};", read("server/src/process/serve.rs"))

    def test_the_package_has_files_that_exist(self):
        package = tomllib.loads(read("server/Cargo.toml"))["package"]["metadata"]["deb"]
        for source, _, _ in package["assets"]:
            if source.startswith("../") and ".quintet" not in source:
                self.assertTrue((ROOT / "server" / source).exists(), source)
        programs = {source.rsplit("/", 1)[1] for source, _, _ in package["assets"] if source.startswith("target/release/quintet")}
        self.assertEqual(programs, set(PROGRAMS))


class Help(unittest.TestCase):
    """What packages take from the programs themselves."""

    def commands(self, name):
        listed = run(quintet(name), "--help").split("\nCommands:\n")[1].split("\n\n")[0]
        return [line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)]

    def test_each_command_has_a_man_page_that_renders(self):
        mandoc = from_package("mandoc", "mandoc")
        for name in PROGRAMS:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                run(quintet(name), "man", folder)
                pages = {path.stem: path for path in Path(folder).glob("*.1")}
                commands = [command for command in self.commands(name) if command != "help"]
                self.assertEqual(set(pages), {name, *(f"{name}-{command}" for command in commands)})
                for page in pages.values() if mandoc else []:
                    text = run(mandoc, "-T", "utf8", "-W", "error", page)
                    self.assertRegex(text, r"(?s)N.*A.*M.*E.*" + page.stem)

    def test_completions_name_every_command(self):
        for name in PROGRAMS:
            for shell in ["bash", "zsh", "fish"]:
                with self.subTest(name, shell=shell), tempfile.NamedTemporaryFile("w", suffix=shell) as script:
                    script.write(run(quintet(name), "completions", shell))
                    script.flush()
                    words = set(re.findall(r"[\w-]+", Path(script.name).read_text(encoding="utf-8")))
                    self.assertEqual({name, *self.commands(name)} - words, set())
                    if interpreter := on_path(shell):
                        run(interpreter, "-n", script.name)


if __name__ == "__main__":
    unittest.main()
