"""Images from Dockerfiles: the language, its cache, and the builder."""
