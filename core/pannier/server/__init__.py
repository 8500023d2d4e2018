"""The Docker Engine API over HTTP: one module a resource, JSON at the edge and nowhere else."""
