"""Deployment of the service: settings of each target, bootstrap, doctor, and the local stack."""
