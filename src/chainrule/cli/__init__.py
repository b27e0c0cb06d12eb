"""The command line: one thin function a verb.

Exit status: 0 done; 2 something was wrong with the input, said in one sentence on standard error; 130 interrupted, with
a checkpoint to resume from. Results go to standard output, everything else to standard error.

PyTorch takes seconds to import: everything that needs it is imported where it is used, so that --help is quick.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from chainrule.cli.archives import compress, decompress, info
from chainrule.cli.common import MODEL_HELP, plain_output
from chainrule.cli.demonstration import demo
from chainrule.cli.drawing_events import complete, sample
from chainrule.cli.measuring_models import doctor, evaluate
from chainrule.cli.quality import quality
from chainrule.cli.results import bench, report, study
from chainrule.cli.train import train, tune
from chainrule.errors import ChainruleError, escaped, out_of_memory
from chainrule.stopping import INTERRUPTED, at_once


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    plain_output()
    try:
        with at_once():
            try:
                return run_verb(args)
            finally:
                sys.stdout.flush()
    except ChainruleError as error:
        return complain(str(error))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if type(error).__name__ == "OutOfMemoryError":
            return complain("the GPU has too little memory for this: do less at a time, or compute on the CPU")
        return complain("there is too little memory for this: do less at a time")
    except KeyboardInterrupt as error:
        print(str(error) or INTERRUPTED, file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        _let_go()
        return 141
    except OSError as error:  # what the system refuses, a full disk behind standard output for one
        _let_go()
        return complain(
            f"{error.filename or 'the output'} cannot be used ({error.strerror or error}): choose another place"
        )


def _let_go() -> None:
    """Discard the rest of the output, which Python would write when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_verb(args: list[str]) -> int:
    """Do what the first argument says."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage(), flush=True)
        return 0 if args else 2
    verb = args.pop(0)
    if verb in ("--version", "-V"):
        from chainrule.cli.installation import engines
        from chainrule.version import version_line

        print(f"chainrule {version_line()}\nengines: {engines()}")
        return 0
    if verb == "--completion":
        from chainrule.cli.completion import completion

        print(completion(args, VERBS))
        return 0
    if verb not in VERBS:
        return complain(f"there is no command {verb!r}: use one of {', '.join(VERBS)}")
    if verb not in SPINNING:
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when PyTorch is imported
    VERBS[verb](args)
    return 0


SPINNING = ("train", "tune", "study", "bench")
"""Verbs whose threads wait for each other as PyTorch's do, looking again and again. On a busy machine that makes two
threads many times as slow as one; those of the other verbs sleep while they wait."""


def complain(sentence: str) -> int:
    """Print one sentence on standard error; the exit status."""
    print(f"chainrule: {escaped(' '.join(sentence.split()))}", file=sys.stderr)
    return 2


def usage() -> str:
    """What `chainrule --help` prints."""
    lines = [
        "usage: chainrule COMMAND …",
        "",
        "Autoregressive models of discrete data: train, measure, sample, complete.",
        "",
    ]
    for name, verb in VERBS.items():
        lines.append(f"  {name:10} {(verb.__doc__ or '').splitlines()[0]}")
    lines += ["", "chainrule COMMAND --help tells more.", MODEL_HELP]
    lines += ["chainrule --completion bash, zsh or fish prints what completes commands in that shell."]
    return "\n".join(lines)


VERBS: dict[str, Callable[[list[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "sample": sample,
    "complete": complete,
    "demo": demo,
    "tune": tune,
    "report": report,
    "compress": compress,
    "decompress": decompress,
    "info": info,
    "doctor": doctor,
    "bench": bench,
    "quality": quality,
    "study": study,
}
