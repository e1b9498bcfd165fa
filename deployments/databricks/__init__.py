"""The Databricks part of bootstrap and doctor: what must exist in a workspace, and the permissions on it."""
