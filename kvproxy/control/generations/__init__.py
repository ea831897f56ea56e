"""Generations: merged from providers, compared with each other, kept in the journal."""
