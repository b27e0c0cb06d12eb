"""What completes commands in a shell, asked as the shell asks."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from chainrule.cli import VERBS, main
from chainrule.cli.completion import bash, commands, completion, words_of

ASKED = {
    "sa": ["sample"],
    "sample --se": ["--seed"],
    "sample pixelcnn-m": ["pixelcnn-made", "pixelcnn-made-3"],
    "sample --device ": ["auto", "cpu", "cuda"],
    "train warm": ["warmup"],
    "train pixelcnn --model.fil": ["--model.filters"],
    "train pixelcnn --train.schedule c": ["constant", "cosine"],
    "bench cod": ["codec"],
    "compress -m photo-": ["photo-5", "photo-gray", "photo-gray-2", "photo-large", "photo-large-1"],
    "--ver": ["--version"],
}
ASK_BASH = """
source /dev/stdin <<< "$SCRIPT"
for line in "$@"; do
    COMP_WORDS=(chainrule) word=${line##* }
    for part in ${line% *}; do [[ $line == *" "* ]] && COMP_WORDS+=("$part"); done
    COMP_CWORD=${#COMP_WORDS[@]} COMP_WORDS+=("$word") COMPREPLY=()
    _chainrule
    echo "${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def script():
    return {shell: completion([shell], VERBS) for shell in ("bash", "zsh", "fish")}


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_verbs_options_and_words(script):
    done = subprocess.run(
        ["bash", "-c", ASK_BASH, "bash", *ASKED], env={"SCRIPT": script["bash"]}, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert [sorted(line.split()) for line in done.stdout.splitlines()] == list(ASKED.values())


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize("line", ASKED)
def test_fish_completes_verbs_options_and_words(line, script, tmp_path):
    ask = f"source script.fish; complete -C 'chainrule {line}'"
    (tmp_path / "script.fish").write_text(script["fish"])
    done = subprocess.run(["fish", "--no-config", "-c", ask], capture_output=True, text=True, cwd=tmp_path)
    assert sorted(word.split("\t")[0] for word in done.stdout.splitlines()) == ASKED[line]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_takes_the_function_of_bash(script, tmp_path):
    assert script["zsh"].endswith(script["bash"])
    (tmp_path / "script.zsh").write_text(script["zsh"])
    done = subprocess.run(
        ["zsh", "-f", "-c", "source ./script.zsh && print $_comps[chainrule]"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )
    assert "_chainrule" in done.stdout


def test_every_verb_has_its_words():
    """Also what only one recipe's model has, and nothing that a shell would take for anything but words."""
    known = {verb: words_of(function) for verb, function in commands(VERBS).items()}
    assert known.keys() == VERBS.keys()
    assert all("--help" in words for words in known.values())
    assert {"--model.classes", "--model.trunk", "--train.redraw", "--init"} <= known["train"].keys()
    assert "--init" not in known["tune"]
    every = [word for words in known.values() for option, choices in words.items() for word in (option, *choices)]
    assert all(set(word) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._TFN") for word in every)
    assert bash(known).count("words=") == bash(known).count(";;") + 2


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_other_shells(words, capsys):
    assert main(["--completion", *words]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
