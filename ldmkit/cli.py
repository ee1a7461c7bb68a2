"""The command line: ``ldmkit VERB ...``. Each verb imports its own module when it is asked for, and no other.

``--help`` and ``plugins`` so import neither torch nor hydra. An error that the user can mend is one line on stderr; its
exit code says of which sort it is (see :mod:`ldmkit.errors`).
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from ldmkit.errors import ConfigError, LdmkitError, did_you_mean
from ldmkit.exits import DEBUG, report

VERBS = {
    "run": ("ldmkit.launch:main", "train, sample and measure: run model=kl-f8 cond=text; -m sweeps; run --help"),
    "sample": ("ldmkit.sample:main", 'pictures from a finished run: sample RUN "a prompt"'),
    "ema": ("ldmkit.ema:main", "average the weights of a finished run anew: ema RUN --width 0.1"),
    "runs": ("ldmkit.runs:main", "the runs so far: runs, runs cond=text 'prompt.all>0.9' --sort prompt.all"),
    "diff": ("ldmkit.diff:main", "two runs beside each other: configs, metrics, stages, pictures: diff RUN RUN"),
    "report": ("ldmkit.report:main", "the report of a run or of a sweep, made again: report SWEEP"),
    "check": ("ldmkit.conformance:main", "what a component promises, checked: check cond text"),
    "ls": ("ldmkit.listing:ls", "the options of every group, or of one: ls, ls cond"),
    "show": ("ldmkit.listing:show", "one option: its keys, what they mean, and where it comes from: show cond text"),
    "new": ("ldmkit.new:main", "begin a package with a part of your own: new cond palette"),
    "plugins": ("ldmkit.plugins:main", "the installed plugins; plugins info NAME, plugins check finds what is wrong"),
}
"""Each verb with the function that carries it out, which takes the arguments behind it, and a line of help."""

_HELP = f"""usage: ldmkit VERB ...

A framework for latent diffusion in which every part is a plugin.

{chr(10).join(f"  {verb:9}{text}" for verb, (_, text) in VERBS.items())}

  --help, --version
  --debug             tracebacks for all errors, also by LDMKIT_DEBUG=1
  LDMKIT_DISABLE=a,b  leaves plugins out, by their name or their distribution's
  LDMKIT_PLUGINS=a,b  takes in these alone, beside ldmkit's own
  completion          eval "$(ldmkit run -sc install=bash)"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out one command line; return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in words:
        words.remove("--debug")
        os.environ[DEBUG] = "1"
    if sys.stdout is None:  # as with `>&-`
        return report(LdmkitError("the output is closed; send it to /dev/null where it is not wanted"))
    try:
        try:
            return _dispatch(words)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone, as with `| head`
        _drop_output()
        return 141
    except KeyboardInterrupt as error:
        print(" ".join(["ldmkit: interrupted", *map(str, error.args)]), file=sys.stderr)
        return 130
    except Exception as error:
        _drop_output()
        if not isinstance(error, LdmkitError):
            from ldmkit.registry.culprit import name_culprit

            name_culprit(error)
        return report(error)


def _drop_output() -> None:
    """Drop what cannot be written, or Python would try it again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0
    verb, *rest = words
    if verb in ("-V", "--version"):
        from importlib.metadata import version

        print(f"ldmkit {version('ldmkit')}")
        return 0
    if verb in ("-sc", "--shell-completion"):  # the shell calls the program, not the verb
        return _complete(rest)
    if verb not in VERBS:
        hint = "; 'ldmkit run' takes it" if "=" in verb else did_you_mean(verb, VERBS)
        raise ConfigError(f"there is no verb '{verb}'{hint}")
    return _function(VERBS[verb][0])(rest) or 0


def _function(target: str) -> Callable[[Sequence[str]], int | None]:
    module, _, name = target.partition(":")
    found: Callable[[Sequence[str]], int | None] = getattr(importlib.import_module(module), name)
    return found


def _complete(rest: list[str]) -> int:
    """Answer the shell: Hydra completes what comes behind ``run``, we complete verbs and kinds."""
    from ldmkit.registry.components import KINDS

    program, *words = os.environ.get("COMP_LINE", "").split(" ")
    if words[:1] == ["run"] and len(words) > 1:
        os.environ["COMP_LINE"] = " ".join([program, *words[1:]])
        return _function(VERBS["run"][0])(["-sc", *rest]) or 0
    behind = {**dict.fromkeys(("check", "ls", "new", "show"), tuple(KINDS)), "plugins": ("check", "info", "list")}
    choices = tuple(VERBS) if len(words) == 1 else behind.get(words[0], ()) if len(words) == 2 else ()
    print("\n".join(choice for choice in choices if choice.startswith(words[-1])))
    return 0
