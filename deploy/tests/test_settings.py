"""Checks that the programs know every QUINTET_* name in the deployment files, and that .env.example lists all."""

import re
import unittest

from support import ROOT, SETTING, quintet, read, run

# Environment variables that are not flags: the log filter.
NO_FLAGS = {"QUINTET_LOG"}
FILES = ["docker-compose.yml", ".env.example", "Dockerfile", "Dockerfile.gpu", "docs/deployment.md"]
# A variable that Kubernetes would set for a Service named quintet; a comment warns about it.
KUBERNETES_OWN = {"QUINTET_SERVICE_HOST"}


def known():
    """The variables that `quintet-server suite --help` names."""
    return set(re.findall(r"\[env: (QUINTET_[A-Z_]+)=", run(quintet("quintet-server"), "suite", "--help"))) | NO_FLAGS


def flags(*command):
    """The flags that a program's help lists."""
    return set(re.findall(r"--[a-z][a-z0-9-]*", run(*command, "--help")))


class Settings(unittest.TestCase):
    def test_names_are_known(self):
        files = [ROOT / name for name in FILES] + [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]
        for path in files:
            if "tests" in path.parts or path.suffix == ".pyc":
                continue
            names = set(SETTING.findall(path.read_text(encoding="utf-8")))
            self.assertEqual(names - known() - KUBERNETES_OWN, set(), path)

    def test_every_setting_is_explained(self):
        named = set(re.findall(r"^#?(QUINTET_[A-Z_]+)=", read(".env.example"), re.MULTILINE))
        self.assertEqual(known() - named, set(), "not in .env.example")

    def test_every_variable_of_compose_is_explained(self):
        used = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", read("docker-compose.yml")))
        named = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))
        self.assertEqual(used, {name: named.get(name) for name in used})
        passed = set(re.findall(r"^  (QUINTET_[A-Z_]+):", read("docker-compose.yml"), re.MULTILINE))
        fixed = read(".env.example").split("# Set by the images")[1]
        missing = known() - passed - set(SETTING.findall(fixed))
        self.assertEqual(missing, set(), "docker-compose.yml does not hand these on")

    def test_the_flags_in_the_files_exist(self):
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
