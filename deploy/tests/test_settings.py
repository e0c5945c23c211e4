"""Checks that the programs know every QUINTET_* name in the deployment's files, and that .env.example lists them all."""

import re
import unittest

from support import ROOT, SETTING, quintet, read, run

# Environment variables without a flag.
NOT_FLAGS = {"QUINTET_LOG"}
FILES = ["docker-compose.yml", ".env.example", "Dockerfile", "Dockerfile.gpu", "docs/deployment.md"]
# A variable that Kubernetes sets for a Service named quintet; a comment mentions it.
KUBERNETES_OWN = {"QUINTET_SERVICE_HOST"}
# An argument of the images' build.
OF_THE_BUILD = {"QUINTET_COMMIT"}


def known():
    """The variables in the help of the suite and of Triton mode."""
    helps = run(quintet("quintet-server"), "suite", "--help") + run(quintet("quintet-server"), "--help")
    return set(re.findall(r"\[env: (QUINTET_[A-Z0-9_]+)=", helps)) | NOT_FLAGS


def flags(*command):
    """The flags in a program's help."""
    return set(re.findall(r"--[a-z][a-z0-9-]*", run(*command, "--help")))


class Settings(unittest.TestCase):
    def test_programs_know_every_name(self):
        files = [ROOT / name for name in FILES] + [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
        for path in files:
            if "tests" in path.parts or path.suffix == ".pyc":
                continue
            names = set(SETTING.findall(path.read_text(encoding="utf-8")))
            self.assertEqual(names - known() - KUBERNETES_OWN - OF_THE_BUILD, set(), path)

    def test_the_example_lists_every_setting(self):
        listed = set(re.findall(r"^#?(QUINTET_[A-Z0-9_]+)=", read(".env.example"), re.MULTILINE))
        self.assertEqual(known() - listed, set(), "not in .env.example")

    def test_the_example_lists_every_variable_of_compose(self):
        used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", read("docker-compose.yml")))
        listed = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))
        self.assertEqual(used, {name: listed.get(name) for name in used})
        passed = set(re.findall(r"^  (QUINTET_[A-Z0-9_]+):", read("docker-compose.yml"), re.MULTILINE))
        fixed = read(".env.example").split("# Set by the images")[1]
        missing = known() - passed - set(SETTING.findall(fixed))
        self.assertEqual(missing, set(), "docker-compose.yml does not pass these on")

    def test_programs_have_the_flags_in_the_files(self):
        bench = flags(quintet("quintet-bench"), "run")
        used = set(re.findall(r"^ +- (--[a-z-]+)=", read("docker-compose.yml"), re.MULTILINE))
        triton = {"--model-repository", "--model-control-mode", "--load-model"}
        triton |= {"--http-port", "--grpc-port", "--metrics-port"}
        self.assertEqual(used - bench - triton, set())
        build = flags(quintet("quintet-models"), "build")
        for path in ["docker-compose.yml", "deploy/images/all-in-one", "deploy/kubernetes/base/deployment.yaml"]:
            for line in re.findall(r"\bbuild[ ,].*--output", read(path)):
                self.assertEqual(set(re.findall(r"--[a-z-]+", line)) - build, set(), path)


if __name__ == "__main__":
    unittest.main()
