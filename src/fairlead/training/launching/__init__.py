"""How the processes of a run start, here and on other nodes, and how they end."""
