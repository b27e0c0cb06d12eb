"""One page on which a browser runs an exact model: what goes into it."""
