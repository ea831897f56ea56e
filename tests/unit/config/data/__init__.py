"""Case tables of the tests beside this folder."""
