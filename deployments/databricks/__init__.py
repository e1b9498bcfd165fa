"""The Databricks half of bootstrap and doctor: what must be in a workspace, and who may do what with it."""
