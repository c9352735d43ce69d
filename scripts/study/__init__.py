"""Studies: what a table of results is made of, the runs behind it, and the table itself."""
