"""Who is on call, from where the rota is kept."""
