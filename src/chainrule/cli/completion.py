"""What completes commands in a shell: a short script of all verbs, their options, and the words that these take.

Options and arguments that take a free word are completed by the shell itself, with file names.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import tyro

from chainrule.cli.common import Question
from chainrule.errors import DataError

Verbs = Mapping[str, Callable[[list[str]], None]]
Words = Mapping[str, list[str]]
"""A verb's options, each with the words that it takes, and under "" the words of its arguments."""

BASH = """\
_chainrule() {{
    local verb=${{COMP_WORDS[1]}} before=${{COMP_WORDS[COMP_CWORD-1]}} word=${{COMP_WORDS[COMP_CWORD]}} words=""
    if [[ $COMP_CWORD == 1 ]]; then
        words="{verbs}"
    elif [[ $word == -* ]]; then
        case $verb in
{options}
        esac
    else
        case "$verb $before" in
{choices}
{arguments}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _chainrule chainrule"""
ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
autoload -Uz bashcompinit && bashcompinit
"""
WHOLE = ["--help", "--version", "--completion"]


def completion(args: list[str], verbs: Verbs) -> str:
    """The script for the shell that the arguments name.

    Raises:
        DataError: they name none.
    """
    shells = {"bash": bash, "zsh": lambda known: ZSH + bash(known), "fish": fish}
    if len(args) != 1 or args[0] not in shells:
        raise DataError(f"--completion prints a script for one shell: name one of {', '.join(shells)}")
    return shells[args[0]]({verb: words_of(function) for verb, function in commands(verbs).items()})


def bash(known: Mapping[str, Words]) -> str:
    """A function of bash, in which zsh finds what it needs, too."""

    def case(pattern: str, words: list[str]) -> str:
        return f'            {pattern}) words="{" ".join(words)}" ;;'

    return BASH.format(
        verbs=" ".join([*known, *WHOLE]),
        options="\n".join(case(verb, [option for option in words if option]) for verb, words in known.items()),
        choices="\n".join(
            case(f'"{verb} {option}"', choices)
            for verb, words in known.items()
            for option, choices in words.items()
            if option and choices
        ),
        arguments="\n".join(case(f'"{verb} "*', words[""]) for verb, words in known.items() if words[""]),
    )


def fish(known: Mapping[str, Words]) -> str:
    """One command of fish for every word that there is to say."""
    begun = "complete -c chainrule -n"
    lines = [f"{begun} __fish_use_subcommand -f -a '{' '.join([*known, *WHOLE])}'"]
    for verb, words in known.items():
        for option, choices in words.items():
            name = f" -l {option[2:]}" if option.startswith("--") else f" -s {option[1:]}" if option else ""
            if name or choices:
                takes = f" {'-x' if name else '-k'} -a '{' '.join(choices)}'" if choices else ""
                lines.append(f"{begun} '__fish_seen_subcommand_from {verb}'{name}{takes}")
    return "\n".join(lines)


def words_of(function: Callable[..., None]) -> Words:
    """The options and words of a function that a command line calls."""
    from chainrule.zoo import shipped

    found: dict[str, list[str]] = {"": []}
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        # tyro's own scripts complete neither an argument's words nor file names
        parser = tyro.extras.get_parser(function, prog="chainrule")
    for action in parser._actions:  # argparse has no other list of them
        choices = [str(choice) for choice in action.choices or ()]
        if str(action.metavar).strip("[]") == "MODEL":
            choices = list(shipped())
        for option in action.option_strings or [""]:
            found[option] = found.get(option, []) + choices
    return found


def commands(verbs: Verbs) -> dict[str, Callable[..., None]]:
    """Every verb, with a function that has its arguments."""
    from chainrule.cli.train import TrainCommand, TuneCommand

    on_recipes = {"train": TrainCommand, "tune": TuneCommand}
    found = {}
    for verb, run in verbs.items():
        question = Question()
        if verb in on_recipes:
            question.function = recipe_command(on_recipes[verb])
        else:
            run(question)
        found[verb] = question.function
    return found


def recipe_command(command_type: Any) -> Callable[..., None]:
    """A function with the arguments of a command on recipes: those of any recipe."""
    from chainrule.lab.fields import fields_of
    from chainrule.lab.recipes import RECIPES
    from chainrule.training.config import TrainConfig

    members: dict[str, Any] = {}
    for line in RECIPES.values():
        for field in dataclasses.fields(fields_of(line.model)):
            members.setdefault(field.name, (field.name, field.type, field))
    model = dataclasses.make_dataclass("AnyModel", members.values(), frozen=True)

    defaults = command_type(model=model(), train=TrainConfig())
    names: Any = Literal[tuple(RECIPES)]
    options: Any = Annotated[command_type[model, TrainConfig], tyro.conf.arg(name="")]
    arguments: list[tuple[str, Any, Any]] = [
        ("recipe", Annotated[names, tyro.conf.Positional], dataclasses.field()),
        ("options", options, dataclasses.field(default_factory=lambda: defaults)),
    ]
    return dataclasses.make_dataclass("Command", arguments)
