"""What stands behind an endpoint: configs, the models' processes, and the way from one version to the next."""
