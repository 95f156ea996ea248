"""Who may do what: keys, roles, rates."""
