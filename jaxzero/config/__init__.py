"""The settings of a run: their schema, where they come from, and what is checked before anything compiles."""
