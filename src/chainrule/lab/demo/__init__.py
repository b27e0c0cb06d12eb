"""The page on which a browser runs a model."""
