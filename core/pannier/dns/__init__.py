"""The embedded DNS: a server for one container's names, knowing nothing of containers itself."""
