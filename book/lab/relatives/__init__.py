"""The map of related methods: the point they step from, and the kind of step."""
