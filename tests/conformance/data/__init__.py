"""Case tables of the reference behaviour as plain data, apart from whatever runs them."""
