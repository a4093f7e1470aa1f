from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ml_platform.training.absent import Absent
from ml_platform.training.code import CodeState


@pytest.fixture
def git(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("Git is not installed")
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    root = tmp_path / "repository"
    root.mkdir()

    def run(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    run.root = root
    return run


def commit(git, path: str, text: str, mail: str, *trailers: str) -> str:
    file: Path = git.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    git("add", "-A")
    git("config", "user.email", mail)
    git("config", "user.name", "A Name")
    message = "A change\n\n" + "\n".join(f"Co-authored-by: {trailer}" for trailer in trailers)
    git("commit", "-q", "-m", message)
    return git("rev-parse", "HEAD")


def test_commit_branch_and_authors_are_those_of_the_location(git):
    first = commit(git, "credit/model.py", "a = 1\n", "Ada@Example.org", "Bob <bob@example.org>", "Cy <cy@example.org>")
    commit(git, "elsewhere/x.py", "x = 1\n", "dan@example.org")
    last = commit(git, "credit/model.py", "a = 2\n", "eve@example.org")
    state = CodeState.of(git.root / "credit")
    assert (state.commit, state.branch, state.dirty) == (last, "main", False)
    assert state.authors == ("ada@example.org", "bob@example.org", "cy@example.org", "eve@example.org")
    assert CodeState.of(git.root / "credit", since=first).authors == ("eve@example.org",)
    assert CodeState.of(git.root / "credit", since=last).authors == ()


def test_the_tree_digest_follows_names_and_contents_not_commits(git):
    commit(git, "credit/model.py", "a = 1\n", "ada@example.org")
    before = CodeState.of(git.root / "credit")
    commit(git, "other.py", "", "ada@example.org")
    assert CodeState.of(git.root / "credit").tree == before.tree
    (git.root / "credit" / "model.py").write_text("a = 2\n")
    changed = CodeState.of(git.root / "credit")
    assert changed.tree != before.tree
    assert changed.dirty is True
    (git.root / "credit" / "model.py").write_text("a = 1\n")
    (git.root / "credit" / "new.py").write_text("")
    assert CodeState.of(git.root / "credit").tree != before.tree
    assert CodeState.of(git.root / "credit").dirty is True


def test_ignored_files_are_no_code(git):
    commit(git, ".gitignore", "*.pyc\n", "ada@example.org")
    before = CodeState.of(git.root)
    (git.root / "x.pyc").write_bytes(b"1")
    after = CodeState.of(git.root)
    assert (after.tree, after.dirty) == (before.tree, False)


def test_a_shallow_clone_does_not_know_its_authors(git, tmp_path):
    commit(git, "model.py", "a = 1\n", "ada@example.org")
    commit(git, "model.py", "a = 2\n", "bob@example.org")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "1", git.root.as_uri(), str(clone)], check=True)
    state = CodeState.of(clone)
    assert isinstance(state.commit, str)
    assert isinstance(state.authors, Absent)
    assert "shallow" in state.authors.reason


@pytest.mark.parametrize("since", ["0" * 40, "main; rm", "--output=x"])
def test_a_commit_that_is_not_in_the_history_leaves_authors_unknown(git, since):
    commit(git, "model.py", "a = 1\n", "ada@example.org")
    assert isinstance(CodeState.of(git.root, since=since).authors, Absent)


def test_without_git_only_the_files_are_known(tmp_path):
    (tmp_path / "model.py").write_text("a = 1\n")
    state = CodeState.of(tmp_path)
    assert isinstance(state.commit, Absent)
    assert isinstance(state.branch, Absent)
    assert isinstance(state.dirty, Absent)
    assert isinstance(state.authors, Absent)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "model.pyc").write_bytes(b"1")
    (tmp_path / ".hidden").write_bytes(b"1")
    assert CodeState.of(tmp_path).tree == state.tree
    (tmp_path / "model.py").write_text("a = 2\n")
    assert CodeState.of(tmp_path).tree != state.tree


def test_a_repository_without_a_commit_has_none(git):
    assert isinstance(CodeState.of(git.root).commit, Absent)


def test_a_detached_head_has_a_commit_and_no_branch(git):
    first = commit(git, "model.py", "a = 1\n", "ada@example.org")
    git("checkout", "-q", first)
    state = CodeState.of(git.root)
    assert state.commit == first
    assert isinstance(state.branch, Absent)


def test_the_run_record_gets_no_mails(git):
    commit(git, "model.py", "a = 1\n", "ada@example.org")
    assert set(CodeState.of(git.root).to_json()) == {"commit", "branch", "dirty", "tree"}
