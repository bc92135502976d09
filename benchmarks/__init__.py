"""What AIDB costs beyond what its models cost: one module a question, each a command."""
