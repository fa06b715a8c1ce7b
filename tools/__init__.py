"""Scripts that build and check the report; no part of the package ``ils``."""
