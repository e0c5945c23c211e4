"""Checks the workflows, the issue forms and what they share with the project's other files."""

import re
import unittest

import yaml
from support import ROOT, program, read, run

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


class Workflows(unittest.TestCase):
    def test_actionlint(self):
        run(program("actionlint"), "-shellcheck", program("shellcheck"), *WORKFLOWS)

    def test_zizmor(self):
        run(program("zizmor"), "--offline", "--no-progress", "--min-severity=medium", ROOT / ".github")

    def test_issue_forms_and_dependabot_match_their_schemas(self):
        forms = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
        run(program("check-jsonschema"), "--builtin-schema=vendor.github-issue-forms", *forms)
        run(program("check-jsonschema"), "--builtin-schema=vendor.dependabot", ROOT / ".github/dependabot.yml")

    def test_actions_are_pinned_by_hash_each_to_one_version(self):
        pins = {}
        for path in WORKFLOWS:
            for name, pin in re.findall(r"uses: ([\w-]+/[\w/-]+)@(.*)", path.read_text(encoding="utf-8")):
                self.assertRegex(pin, r"^[0-9a-f]{40} # v\d+\.\d+\.\d+$", name)
                self.assertEqual(pins.setdefault(name, pin), pin)
        self.assertIn("actions/checkout", pins)

    def test_the_compiler_is_that_of_the_images(self):
        [image] = set(re.findall(r"^ARG RUST_IMAGE=rust:([\d.]+)-", read("Dockerfile") + read("Dockerfile.gpu"), re.M))
        for path in WORKFLOWS:
            self.assertEqual(yaml.safe_load(path.read_text(encoding="utf-8"))["env"]["RUSTUP_TOOLCHAIN"], image)

    def test_released_images_are_those_of_the_compose_file(self):
        matrix = yaml.safe_load(read(".github/workflows/release.yml"))["jobs"]["images"]["strategy"]["matrix"]["include"]
        released = {(entry["image"], entry["file"]) for entry in matrix}
        self.assertEqual(released, {("cpu", "Dockerfile"), ("gpu", "Dockerfile.gpu")})
        for name, file in released:
            self.assertRegex(read("docker-compose.yml"), rf"-quintet:{name}}}\n  build:\n.*\n    dockerfile: {file}\n")


if __name__ == "__main__":
    unittest.main()
