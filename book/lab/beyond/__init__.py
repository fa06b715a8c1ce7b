"""Beyond the categorical draw: other families, and models with them."""
