"""`python -m chainrule` is `chainrule`; this is what launchers of several processes start, too."""

import gc

from chainrule.stopping import at_once


def main() -> int:
    """Run one command, which may be stopped from the first moment on: also while its imports are under way."""
    gc.set_threshold(100_000, 20, 20)  # the objects of an import stay: searching them for garbage costs a third of it
    with at_once():
        from chainrule.cli import main

        return main()


if __name__ == "__main__":
    raise SystemExit(main())
