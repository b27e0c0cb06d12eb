"""`python -m chainrule` is `chainrule`; this is what launchers of several processes start."""

from chainrule.cli import main

raise SystemExit(main())
