"""Puts the programs of the folder QUINTET_PROGRAMS into the wheel, with the man pages and completions beside them, and names the
platform that they need."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAMS = ["quintet-server", "quintet-bench", "quintet-models"]


class Programs(BuildHookInterface):
    def initialize(self, _version, build_data):
        folder = Path(os.environ["QUINTET_PROGRAMS"])
        programs = {str(folder / name): name for name in PROGRAMS}
        build_data["shared_scripts"] = programs
        # As `cargo xtask package` writes them.
        if (folder / "share").is_dir():
            build_data["shared_data"] = {str(folder / "share"): "share"}
        build_data["pure_python"] = False
        # Any Python 3: the programs are no extension modules.
        build_data["tag"] = f"py3-none-{platform_tag(programs)}"


def platform_tag(programs):
    """The tag of PEP 600: the oldest glibc that has all that the programs use. On macOS that of ONNX Runtime's wheel."""
    if sys.platform == "darwin":
        return f"macosx_14_0_{platform.machine()}"
    command = ["readelf", "--version-info", "--wide", *programs]
    needs = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    newest = max(int(minor) for minor in re.findall(r"\bGLIBC_2\.(\d+)", needs))
    return f"manylinux_2_{newest}_{platform.machine()}"
