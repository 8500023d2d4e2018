"""Images: the OCI content store, references, layers, the registry client and archives."""
