"""Which code trained a model: the release, and the revision where it is known."""

from __future__ import annotations

import functools
import json
from importlib import metadata
from pathlib import Path

import aiops
from aiops import __version__

DISTRIBUTION = "aiops-assistant"


@functools.cache
def code_version() -> str:
    """``<release>``, or ``<release>+<revision>`` from a checkout or an install from version control."""
    revision = of_checkout(Path(aiops.__file__).parents[1]) or _of_install()
    return f"{__version__}+{revision[:12]}" if revision else __version__


def of_checkout(root: Path) -> str:
    """The commit that a Git checkout stands at, read from its files; empty where it is none."""
    git = root / ".git"
    try:
        if git.is_file():  # a worktree names its folder
            git = (root / git.read_text().removeprefix("gitdir:").strip()).resolve()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        common = git
        if (git / "commondir").is_file():
            common = (git / (git / "commondir").read_text().strip()).resolve()
        for place in (git / name, common / name):
            if place.is_file():
                return place.read_text().strip()
        for line in (common / "packed-refs").read_text().splitlines():
            commit, _, found = line.partition(" ")
            if found == name:
                return commit
    except (OSError, UnicodeDecodeError):
        return ""
    return ""


def _of_install() -> str:
    """The commit that a package manager installed (PEP 610)."""
    try:
        told = metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        found = json.loads(told or "{}")
        return str(found.get("vcs_info", {}).get("commit_id", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return ""
