"""completion: what a shell needs to complete this command's verbs, options and broker names, made of the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

_BASH = """\
_mqshm() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{verbs}"
    else
        case "$verb $prev" in
{values}
        *)
            case "$cur" in
            -*)
                case "$verb" in
{options}
                esac ;;
            *)
                case "$COMP_CWORD $verb" in
                {named}) words=$(mqshm ls 2>/dev/null) ;;
                esac ;;
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _mqshm mqshm
"""
_ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add_verbs(verbs: Any) -> None:
    verb = verbs.add_parser(
        "completion",
        help="print what makes a shell complete this command",
        description='bash and zsh: eval "$(mqshm completion bash)" in the startup file. '
        "fish: mqshm completion fish > ~/.config/fish/completions/mqshm.fish",
    )
    verb.add_argument("shell", choices=["bash", "zsh", "fish"])
    verb.set_defaults(run=lambda chosen: _print(chosen.shell, verbs))


def _print(shell: str, verbs: Any) -> None:
    parsers: dict[str, argparse.ArgumentParser] = verbs.choices
    if shell == "fish":
        helps = {action.dest: action.help or "" for action in verbs._get_subactions()}
        print("\n".join(_fish(parsers, helps)))
    else:
        print((_ZSH if shell == "zsh" else "") + _bash(parsers), end="")


def _bash(parsers: dict[str, argparse.ArgumentParser]) -> str:
    values, options, named = [], [], []
    for verb, parser in parsers.items():
        options.append(f'                {verb}) words="{" ".join(_options(parser))}" ;;')
        for action in parser._actions:
            if action.choices and action.option_strings:
                cases = " | ".join(f'"{verb} {option}"' for option in action.option_strings)
                values.append(f'        {cases}) words="{" ".join(map(str, action.choices))}" ;;')
        if _first(parser) == "name":
            named.append(f'"2 {verb}"')
        elif choices := _first_choices(parser):
            values.append(f'        "{verb} {verb}") words="{" ".join(choices)}" ;;')
    return _BASH.format(
        verbs=" ".join(parsers), values="\n".join(values), options="\n".join(options), named=" | ".join(named)
    )


def _fish(parsers: dict[str, argparse.ArgumentParser], helps: dict[str, str]) -> Iterator[str]:
    yield "complete -c mqshm -f"
    for verb, parser in parsers.items():
        yield f"complete -c mqshm -n __fish_use_subcommand -a {verb} -d {_quoted(helps.get(verb, ''))}"
        here = f"-n '__fish_seen_subcommand_from {verb}'"
        if _first(parser) == "name":
            yield f"complete -c mqshm {here} -a '(mqshm ls 2>/dev/null)'"
        elif choices := _first_choices(parser):
            yield f"complete -c mqshm {here} -a '{' '.join(choices)}'"
        for action in parser._actions:
            if not action.option_strings:
                continue
            words = [f"-l {each[2:]}" if each.startswith("--") else f"-s {each[1:]}" for each in action.option_strings]
            if action.choices:
                words.append(f"-x -a '{' '.join(map(str, action.choices))}'")
            elif action.nargs != 0:
                words.append("-r -F")
            yield f"complete -c mqshm {here} {' '.join(words)} -d {_quoted(action.help or '')}"


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings]


def _positionals(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if not action.option_strings]


def _first(parser: argparse.ArgumentParser) -> str | None:
    found = _positionals(parser)
    return found[0].dest if found else None


def _first_choices(parser: argparse.ArgumentParser) -> list[str]:
    found = _positionals(parser)
    return list(map(str, found[0].choices)) if found and found[0].choices else []


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
