"""Helpers of the checks: the project's files, and programs of the virtual environment or on PATH."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

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


def quintet(name):
    """The path of a built program of the project, in the folder QUINTET_PROGRAMS."""
    return pathlib.Path(os.environ["QUINTET_PROGRAMS"]) / name


def documents(text):
    """The documents in a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def read(*path):
    """The text of a file of the project."""
    return ROOT.joinpath(*path).read_text(encoding="utf-8")
