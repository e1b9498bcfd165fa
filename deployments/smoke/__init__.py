"""`python -m deployments smoke`: tries every call of the service once in a real workspace, and removes what it made."""
