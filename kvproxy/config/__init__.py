"""Static settings: sources, precedence, flags generated from the model."""
