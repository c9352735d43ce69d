"""What bash, zsh and fish evaluate to complete the words of a command.

``savi-train --shell-completion install=bash`` prints it; the flags are those that Hydra has. For
each TAB the shell then calls ``savi-train --shell-completion query=bash`` with the line so far in
``COMP_LINE``, and reads a candidate from each line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from savi.errors import InputError, unknown_option

#: The flags after which a word ``install=SHELL``, ``uninstall=SHELL`` or ``query=SHELL`` comes.
FLAGS = ("--shell-completion", "-sc")

#: Bash replaces only what follows the last of its word breaks, to which = and : belong.
_BASH = r"""_savi_completion() {
    local line=${COMP_LINE:0:COMP_POINT} candidate
    local word=${line##* }
    local kept=${word%"${word##*[$COMP_WORDBREAKS]}"}
    COMPREPLY=()
    while IFS= read -r candidate; do
        candidate=${candidate#"$kept"}
        if [[ $candidate == *[!A-Za-z0-9_.,/=:@%+~-]* ]]; then
            printf -v candidate %q "$candidate"
        fi
        COMPREPLY+=("$candidate")
    done < <(COMP_LINE=$line "$1" --shell-completion query=bash 2>/dev/null)
    if [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} == *[=./] ]]; then
        compopt -o nospace
    fi
}
complete -F _savi_completion COMMAND"""

_ZSH = r"""_savi_completion() {
    local -a candidates
    candidates=("${(@f)$(COMP_LINE="${(j: :)words[1,CURRENT]}" \
        $words[1] --shell-completion query=zsh 2>/dev/null)}")
    compadd -S '' -- ${(M)candidates:#*[=./]}
    compadd -- ${candidates:#*[=./]}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _savi_completion COMMAND"""

_FISH = r"""function _savi_completion
    set -lx COMP_LINE (commandline -cp)
    set -l words (commandline -cpo)
    $words[1] --shell-completion query=fish 2>/dev/null
end
complete -c COMMAND -f -a '(_savi_completion)'"""

#: What switches it on, and off again.
SCRIPTS = {
    "bash": (_BASH, "complete -r COMMAND"),
    "zsh": (_ZSH, "compdef -d COMMAND"),
    "fish": (_FISH, "complete -e -c COMMAND"),
}


def answer(
    command: str, words: Sequence[str], candidates: Callable[[list[str]], Iterable[str]]
) -> str:
    """What a command prints after one of :data:`FLAGS`.

    Args:
        command: its name.
        words: what follows the flag.
        candidates: for the last of the words of a command line, which may be empty.

    Raises:
        InputError: for other words than one of the three.
    """
    action, _, shell = words[0].partition("=") if len(words) == 1 else ("", "", "")
    if action not in ("install", "uninstall", "query"):
        raise InputError(
            f"{FLAGS[0]} takes one word: set it to install=SHELL, uninstall=SHELL or query=SHELL, "
            f"where SHELL is one of {', '.join(SCRIPTS)}"
        )
    if shell not in SCRIPTS:
        raise unknown_option("shell", shell, SCRIPTS)
    if action == "query":
        line = os.environ.get("COMP_LINE", "")
        typed = line.split()[1:]
        # After a space a new word begins.
        return "\n".join(sorted(candidates([*typed, ""] if line[-1:].isspace() else typed)))
    install, uninstall = SCRIPTS[shell]
    return (install if action == "install" else uninstall).replace("COMMAND", command)


def paths(word: str, *, folders: bool = False) -> list[str]:
    """The files and folders, or the folders alone, whose paths begin with a word."""
    where, _, begin = word.rpartition("/")
    parent = f"{where}/" if "/" in word else ""
    try:
        entries = list(os.scandir(os.path.expanduser(parent) or "."))
    except OSError:
        return []
    return [
        f"{parent}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in entries
        if entry.name.startswith(begin)
        and (begin or not entry.name.startswith("."))
        and (entry.is_dir() or not folders)
    ]
