"""Helpers of the checks: the project's files, and programs of the virtual environment or on PATH."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTING = re.compile(r"\bQUINTET_[A-Z0-9_]+\b")


def run(*command, **options):
    """Runs a command, which must succeed; returns its stdout."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, f"{' '.join(map(str, command))}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


def program(name):
    """The path of a program in this virtual environment."""
    return pathlib.Path(sys.executable).parent / name


def on_path(name):
    """The path of a program on PATH outside this virtual environment, or None."""
    found = shutil.which(name)
    return None if found is None or pathlib.Path(found).parent == program(name).parent else found


def from_package(package, name):
    """The path of a program of a Debian package: on PATH, or unpacked without installing; None where there is neither."""
    folder = ROOT / ".quintet" / package
    unpacked = folder / "usr/bin" / name
    if on_path(name) or unpacked.exists():
        return on_path(name) or unpacked
    if not shutil.which("apt-get"):
        return None
    with tempfile.TemporaryDirectory() as downloads:
        download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
        if subprocess.run(download, cwd=downloads, capture_output=True, check=False).returncode != 0:
            # A fresh machine has no list of packages yet.
            subprocess.run(["apt-get", "-qq", "update"], capture_output=True, check=False)
            if subprocess.run(download, cwd=downloads, capture_output=True, check=False).returncode != 0:
                return None
        for archive in pathlib.Path(downloads).glob("*.deb"):
            run("dpkg-deb", "--extract", archive, folder)
    return unpacked if unpacked.exists() else None


def quintet(name):
    """The path of a built program of the project, in the folder QUINTET_PROGRAMS."""
    return pathlib.Path(os.environ["QUINTET_PROGRAMS"]) / name


def documents(text):
    """The documents in a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def read(*path):
    """The text of a file of the project."""
    return ROOT.joinpath(*path).read_text(encoding="utf-8")
