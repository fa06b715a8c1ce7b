"""How tables and figures look, and how a figure is published."""
