"""Checks the Dockerfiles and their scripts with linters, and the build context against the workspace."""

import re
import tomllib
import unittest

from support import ROOT, program, quintet, read, run

DOCKERFILES = ["Dockerfile", "Dockerfile.gpu", "deploy/peers/pytorch/Dockerfile"]
SCRIPTS = ["deploy/images/all-in-one", "deploy/image-size", "deploy/peers/triton/serve-trt", "examples/ask.sh", "xtask/src/gpu_check/unpack-and-check"]


class Images(unittest.TestCase):
    def test_hadolint(self):
        for path in DOCKERFILES:
            run(program("hadolint"), ROOT / path)

    def test_shellcheck(self):
        run(program("shellcheck"), *(ROOT / path for path in SCRIPTS))
        for path in SCRIPTS:
            self.assertTrue((ROOT / path).stat().st_mode & 0o111 or path.endswith("serve-trt"), path)

    def test_images_run_without_root_and_have_a_health_check(self):
        for path in DOCKERFILES:
            last_stage = read(path).rsplit("FROM", 1)[1]
            self.assertRegex(last_stage, r"\nUSER 65532:65532\n", path)
            self.assertIn("\nHEALTHCHECK ", last_stage, path)
        for path in DOCKERFILES[:2]:
            self.assertIn('CMD ["quintet-server", "health"]', read(path), path)
            self.assertIn("EXPOSE 8002 8010 8011 8012 8020 8021 8022\n", read(path), path)

    def test_the_build_context_has_every_workspace_member(self):
        members = tomllib.loads(read("Cargo.toml"))["workspace"]["members"]
        kept = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
        self.assertEqual({member.split("/")[0] for member in members} - kept, set(), ".dockerignore excludes them")
        for path in kept:
            self.assertTrue((ROOT / path).exists(), path)
        copied = {source for path in DOCKERFILES[:2] for source in re.findall(r"^COPY (?:--chmod=\d+ )?([a-z]\S+) ", read(path), re.M)}
        for source in copied:
            self.assertTrue((ROOT / source).exists(), source)
            self.assertTrue(any(source.startswith(path) for path in kept), f".dockerignore excludes {source}")

    def test_the_programs_need_only_the_libraries_of_the_base_image(self):
        # The smallest base, distroless/cc, has glibc and GCC's runtime only.
        base = re.compile(r"(libc|libm|libgcc_s|libstdc\+\+|ld-linux-[\w-]+)\.so\.\d+")
        for name in ["quintet-server", "quintet-bench", "quintet-models"]:
            needed = re.findall(r"\(NEEDED\).*\[(.+)\]", run("readelf", "--dynamic", "--wide", quintet(name)))
            self.assertIn("libc.so.6", needed)
            self.assertEqual([library for library in needed if not base.fullmatch(library)], [], name)

    def test_wheels_and_images_are_pinned(self):
        for name in ["onnxruntime", "onnxruntime-gpu", "gpu", "tensorrt-rtx"]:
            pins = re.sub(r"^#.*\n", "", read("xtask/python", f"{name}.txt"), flags=re.M)
            self.assertRegex(pins, r"\A([\w-]+==[0-9.]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n)+\Z", name)
        # The tests' library is the one of the image.
        pin = re.compile(r"onnxruntime-gpu==.+\n.+")
        self.assertEqual(*(pin.search(read("xtask/python", f"{name}.txt")).group() for name in ["onnxruntime-gpu", "gpu"]))
        images = re.findall(r"^ARG \w+_IMAGE=(\S+)", "\n".join(map(read, DOCKERFILES)), re.M)
        images += re.findall(r"_IMAGE:-([^}]+)\}", read("docker-compose.yml"))
        for image in images:
            self.assertRegex(image, r":[^/]+$", image)
            self.assertNotIn(":latest", image)


if __name__ == "__main__":
    unittest.main()
