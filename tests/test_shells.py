"""Completion in real shells, at a terminal: a word is typed, and TAB is pressed."""

import os
import pty
import select
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from savi.errors import InputError
from savi.shells import answer, paths

#: Stands for a command that a shell asks: it answers at once, and notes what it was asked.
STUB = """#!/bin/sh
echo "$COMP_LINE|$*" >> asked.txt
printf '%s\\n' 'inner.optimizer=adam' 'inner.optimizer=newton'
"""

#: How a shell is started without anybody's settings, and told to be plain.
SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}


def typed(shell: str, lines: list[str], folder: Path, wanted: str) -> str:
    """What a terminal shows after lines were typed into a shell, until something wanted comes."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "TERM": "xterm",
        "COLUMNS": "200", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), "LANG": "C.UTF-8",
    }  # fmt: skip
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(shell, SHELLS[shell], environment)
    shown, waiting, deadline = "", list(lines), time.monotonic() + 30
    try:
        quiet = 0.0
        while wanted not in shown and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.05)[0]:
                shown += os.read(terminal, 4096).decode(errors="replace")
                quiet = time.monotonic()
                # Fish begins once the terminal has said which one it is.
                if "\x1b[c" in shown or "\x1b[0c" in shown:
                    os.write(terminal, b"\x1b[?62;c\x1b[1;1R")
                    shown = shown.replace("\x1b[c", "").replace("\x1b[0c", "")
            elif waiting and quiet and time.monotonic() - quiet > 0.2:
                os.write(terminal, waiting.pop(0).encode())
                shown = ""
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown


@pytest.fixture
def command(tmp_path):
    """Put a command into a folder."""

    def put(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    return put


@pytest.mark.parametrize(
    ("shell", "name"), [("bash", "savi-train"), ("zsh", "savi-evaluate"), ("fish", "savi-report")]
)
def test_a_tab_completes_the_only_candidate(shell, name, command, tmp_path):
    command(name, STUB.replace("'inner.optimizer=newton'", ""))
    (tmp_path / "install").write_text(answer(name, [f"install={shell}"], lambda words: ()))
    wanted = "inner.optimizer=adam"
    shown = typed(shell, [". ./install\n", f"{name} seed=3 inner.op\t"], tmp_path, wanted)
    assert wanted in shown
    asked = (tmp_path / "asked.txt").read_text().splitlines()[0]
    assert asked == f"{name} seed=3 inner.op|--shell-completion query={shell}"


def test_bash_breaks_words_at_an_equals_sign(command, tmp_path):
    command("savi-train", STUB)
    (tmp_path / "install").write_text(answer("savi-train", ["install=bash"], lambda words: ()))
    lines = [". ./install\n", "savi-train inner.optimizer=\t", "\t", "\t"]
    shown = typed("bash", lines, tmp_path, "newton")
    # Behind the = stands what it could be followed by, and no second key.
    assert "adam" in shown
    assert "optimizer=adam" not in shown


@pytest.mark.slow
def test_the_real_command_in_a_shell(command, tmp_path):
    code = f"#!{sys.executable}\nfrom savi.cli import train\ntrain()\n"
    command("savi-train", code)
    lines = ['eval "$(savi-train -sc install=bash)"\n', "savi-train experiment=laplace\t"]
    wanted = "experiment=laplace_ift"
    assert wanted in typed("bash", lines, tmp_path, wanted)


def test_it_is_switched_off_again():
    assert answer("savi-train", ["uninstall=bash"], lambda words: ()) == "complete -r savi-train"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--shell-completion takes one word: set it to install=SHELL, uninstall=SHELL"),
        (["query=bash", "seed=3"], "takes one word"),
        (["remove=bash"], "takes one word"),
        (["install=tcsh"], "unknown shell 'tcsh': choose one of bash, fish, zsh"),
    ],
)
def test_other_words_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        answer("savi-train", words, lambda words: ())


def test_a_question_is_answered_line_by_line(monkeypatch):
    asked = []

    def candidates(words: list[str]) -> list[str]:
        asked.append(words)
        return ["b", "a"]

    for line in ("savi-train seed=3 in", "savi-train seed=3 "):
        monkeypatch.setenv("COMP_LINE", line)
        assert answer("savi-train", ["query=zsh"], candidates) == "a\nb"
    assert asked == [["seed=3", "in"], ["seed=3", ""]]


def test_paths_begin_with_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "only.npy").touch()
    (tmp_path / ".hidden").mkdir()
    assert paths("") == ["runs/"]
    assert paths(".h") == [".hidden/"]
    assert sorted(paths("runs/on")) == ["runs/one/", "runs/only.npy"]
    assert paths("runs/on", folders=True) == ["runs/one/"]
    assert paths(f"{tmp_path}/r") == [f"{tmp_path}/runs/"]
    assert paths("nowhere/") == []
