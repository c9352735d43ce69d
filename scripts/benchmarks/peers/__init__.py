"""The benchmark ``peers``: the time of an outer step here and in other libraries."""
