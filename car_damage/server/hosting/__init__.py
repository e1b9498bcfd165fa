"""Endpoints, their configs and the models' processes that serve them."""
