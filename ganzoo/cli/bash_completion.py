"""Completion in bash, which splits words where other shells do not."""

from __future__ import annotations

import os

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

_BREAKS = set(":=")


_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete $1)
    for completion in $response; do
        IFS=',' read type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
            [[ $value == *[=/:] ]] && compopt -o nospace
        fi
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion in bash, which splits a word at `:` and `=`: they are put together here, as in `mnist:size=32`.

    After `key=` bash adds no space.
    """

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """(the words before, the word at the cursor)."""
        number = int(os.environ["COMP_CWORD"])
        words = [*split_arg_string(os.environ["COMP_WORDS"]), ""][: number + 1]
        joined: list[str] = []
        goes_on = False
        for word in words[1:]:
            is_break = bool(word) and set(word) <= _BREAKS
            if joined and (goes_on or is_break):
                joined[-1] += word
            else:
                joined.append(word)
            goes_on = is_break
        current = words[-1] if not set(words[-1]) <= _BREAKS else ""
        incomplete = joined.pop() if joined else ""
        self._before = incomplete.removesuffix(current) if current else incomplete
        return joined, incomplete

    def format_completion(self, item: CompletionItem) -> str:
        """The line of an item, without what bash keeps before the cursor."""
        return f"{item.type},{item.value.removeprefix(self._before)}"


def install() -> None:
    """Use this bash completion in place of click's."""
    add_completion_class(Bash)
