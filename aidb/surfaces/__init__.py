"""What people touch: the shell, the demo."""
