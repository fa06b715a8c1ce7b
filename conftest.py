"""For pytest anywhere in the tree: outputs of notebooks are compared by ``tools/outputs.py``."""

pytest_plugins = ["tools.outputs"]
