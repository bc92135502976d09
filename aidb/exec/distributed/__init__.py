"""Models on the workers of a Ray cluster: the same answers, stored by the same writer, from other processes."""
