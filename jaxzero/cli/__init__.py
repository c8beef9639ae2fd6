"""The `jaxzero` command, a file a group of commands. Parsing only: each calls one function of the package."""
