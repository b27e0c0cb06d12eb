"""The version that is installed."""

from importlib import metadata

try:
    __version__ = metadata.version("chainrule")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0+unknown"
