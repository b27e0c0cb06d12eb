"""`python -m chainrule` is `chainrule`; this is what launchers of several processes start, too."""

import gc

from chainrule.stopping import at_once


def main() -> int:
    """Run one command, which can be stopped from the first moment, even while its imports are under way."""
    gc.set_threshold(100_000, 20, 20)  # imported objects stay: searching them for garbage takes a third of the import
    with at_once():
        from chainrule.cli import main

        return main()


if __name__ == "__main__":
    raise SystemExit(main())
