"""The laboratory: recipes, run folders, benchmarks and the report. Nothing that a user of the library imports."""
