"""One page on which a browser runs an exact model: the page, and what goes into it."""
