"""The command `quintet`, which starts quintet-server, quintet-bench and quintet-models."""
